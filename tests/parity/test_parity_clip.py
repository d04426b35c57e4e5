"""CLIP and its relatives that saw no medical data, against OpenAI's and the EVA authors' own code."""

import sys
import types
from functools import partial
from unittest import mock

import open_clip
import packaging.version
import pytest
import timm
import torch
import transformers

from tests.parity.harness import Case, Official, check, randomised, relative_difference
from tests.parity.layouts import clip_as_transformers, renamed, siglip_as_transformers, small_timm_vit

SMALL_CLIP = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 32,
}
SMALL_SIGLIP = SMALL_CLIP | {"intermediate_size": 239}
del SMALL_SIGLIP["projection_dim"]
SMALL_TIMM = {"embed_dim": 64, "depth": 2, "num_heads": 4}
SMALL_TOWER = {
    "image_size": 56,
    "layers": 2,
    "width": 64,
    "head_width": 16,
    "mlp_ratio": 4.0,
    "patch_size": 14,
}

OPENAI = "clip-anytorch 2.6.0 (OpenAI's own code)"
EVA = "consisid-eva-clip 1.0.2 (the authors' EVA-CLIP tower)"
TRANSFORMERS = f"transformers {transformers.__version__}"
TIMM = f"timm {timm.__version__}"

EVA_IN_TIMM = {
    r"\.mlp\.ffn_ln\.": ".mlp.norm.",
    r"\.attn\.inner_attn_ln\.": ".attn.norm.",
    r"\.mlp\.w1\.": ".mlp.fc1_g.",
    r"\.mlp\.w2\.": ".mlp.fc1_x.",
    r"\.mlp\.w3\.": ".mlp.fc2.",
    r"\.attn\.([qv])_bias$": r".attn.\1_proj.bias",
}


def openai_clip():
    """OpenAI's package, which still asks setuptools for a module that it no longer has."""
    gone = types.ModuleType("pkg_resources")
    gone.packaging = packaging
    with mock.patch.dict(sys.modules, {"pkg_resources": gone}):
        import clip.clip
    return clip


def openai_tower(options):
    """OpenAI's image tower with random weights, and its features by the names on our cards."""
    tower = openai_clip().model.VisionTransformer(
        options["image_size"],
        options["patch_size"],
        options["hidden_size"],
        options["num_hidden_layers"],
        options["num_attention_heads"],
        options["projection_dim"],
    )
    randomised(tower)

    def before_projection(pictures):
        seen = []
        hook = tower.ln_post.register_forward_hook(lambda module, given, made: seen.append(made))
        tower(pictures)
        hook.remove()
        return seen[0]

    return tower, {"projected_embedding": tower, "pre_projection_cls": before_projection}


def openai_in_transformers(options):
    """The layout of openai/clip-vit-*, with the buffer of old releases and a text tower."""
    tower, features = openai_tower(options)
    state = clip_as_transformers(tower.state_dict())
    tokens = state["vision_model.embeddings.position_embedding.weight"].shape[0]
    state |= {
        "vision_model.embeddings.position_ids": torch.arange(tokens)[None],
        "text_model.final_layer_norm.weight": torch.ones(2),
        "logit_scale": torch.ones(()),
    }
    return Official(state, features, openai_clip().clip._transform(options["image_size"]))


def big_g(options):
    """open_clip's layout, computed by transformers with plain GELU."""
    vision = options["vision_cfg"]
    tower = randomised(
        open_clip.model._build_vision_tower(options["embed_dim"], dict(vision), quick_gelu=False)
    )
    config = transformers.CLIPVisionConfig(
        hidden_size=vision["width"],
        intermediate_size=int(vision["width"] * vision["mlp_ratio"]),
        num_hidden_layers=vision["layers"],
        num_attention_heads=vision["width"] // vision["head_width"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        projection_dim=options["embed_dim"],
        hidden_act="gelu",
    )
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    state = tower.state_dict()
    model.load_state_dict(clip_as_transformers(state), strict=True)
    return Official(
        {f"visual.{k}": v for k, v in state.items()} | {"text_projection": torch.ones(2, 2)},
        {
            "projected_embedding": lambda x: model(x).image_embeds,
            "pre_projection_cls": lambda x: model.vision_model(x).pooler_output,
        },
        open_clip.image_transform(224, is_train=False),
    )


def eva(layout, options):
    """The EVA authors' tower; its names in the file are timm's, the authors', or LLM2CLIP's."""
    from consisid_eva_clip.eva_vit_model import EVAVisionTransformer

    tower = EVAVisionTransformer(
        img_size=336,
        patch_size=14,
        num_classes=options["num_classes"],
        embed_dim=options.get("embed_dim", 1024),
        depth=options.get("depth", 24),
        num_heads=options.get("num_heads", 16),
        mlp_ratio=2.6667,
        qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_mean_pooling=False,
        rope=True,
        pt_hw_seq_len=16,
        intp_freq=True,
        naiveswiglu=True,
        subln=True,
    )
    rope = {k: v.clone() for k, v in tower.state_dict().items() if "rope" in k}
    randomised(tower).load_state_dict(rope, strict=False)
    state = tower.state_dict()
    if layout == "timm":
        state = {k: v for k, v in renamed(state, EVA_IN_TIMM).items() if "rope" not in k}
        prefix = "visual.trunk."
    else:
        prefix = "visual."
        if layout == "llm2clip":
            state = renamed(state, {r"\.attn\.([qv])_bias$": r".attn.\1_proj.bias"})
    file = {prefix + k: v for k, v in state.items()} | {"text.positional_embedding": torch.ones(2, 2)}
    features = {
        "projected_embedding": tower,
        "pre_projection_cls": lambda x: tower.forward_features(x)[0],
    }
    return Official(file, features, open_clip.image_transform(336, is_train=False))


def siglip(arch, act, options):
    """timm's SigLIP trunk; transformers' names in the file, the tower alone or beside a text tower."""
    trunk = small_timm_vit(arch, options, act_layer=act)
    randomised(trunk)
    state = {f"vision_model.{k}": v for k, v in siglip_as_transformers(trunk.state_dict()).items()}
    state |= {"text_model.head.weight": torch.ones(2, 2), "logit_scale": torch.ones(1)}
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    transform = open_clip.image_transform(options["image_size"], is_train=False, resize_mode="squash", **half)
    features = {"pooled_embedding": trunk, "patch_mean": lambda x: trunk.forward_features(x).mean(1)}
    return Official(state, features, transform)


SIGLIP = partial(siglip, "vit_so400m_patch14_siglip_384", "gelu_tanh")
SIGLIP_BASE = partial(siglip, "vit_base_patch16_siglip_224", "gelu_tanh")

# One tensor taken out, as the file and as the refusal call it, where a converter stands between them.
LLM2CLIP = ("visual.blocks.1.mlp.w2.weight", "blocks.1.mlp.fc1_x.weight")
AUTHORS = ("visual.blocks.1.attn.q_bias", "blocks.1.attn.q_proj.bias")

CASES = [
    Case("clip_b16", openai_in_transformers, OPENAI, shrink=SMALL_CLIP),
    Case("clip_l14", openai_in_transformers, OPENAI, shrink=SMALL_CLIP),
    Case("clip_g14", big_g, TRANSFORMERS, shrink={"embed_dim": 32, "vision_cfg": SMALL_TOWER}, pixels=56),
    Case(
        "clip_g14@vit_g14",
        big_g,
        TRANSFORMERS,
        shrink={"embed_dim": 32, "vision_cfg": SMALL_TOWER},
        pixels=56,
    ),
    Case("eva02", partial(eva, "timm"), EVA, shrink=SMALL_TIMM | {"num_classes": 24}),
    Case("eva02@authors_file", partial(eva, "authors"), EVA, shrink=SMALL_TIMM, removed=AUTHORS),
    Case("siglip", SIGLIP, f"{TIMM}, tanh GELU", shrink=SMALL_SIGLIP),
    Case("siglip@base", SIGLIP_BASE, f"{TIMM}, tanh GELU", shrink=SMALL_SIGLIP | {"intermediate_size": 256}),
    Case("llm2clip", partial(eva, "llm2clip"), EVA, shrink=SMALL_TIMM, removed=LLM2CLIP),
    Case("llm2clip@openai_l14_336", openai_in_transformers, OPENAI, shrink=SMALL_CLIP),
    Case("llm2clip@openai_b16", openai_in_transformers, OPENAI, shrink=SMALL_CLIP),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model)
def test_reduced(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("model", ["clip_b16", "clip_l14"])
def test_full_size(model, tmp_path):
    check(Case(model, openai_in_transformers, OPENAI), tmp_path)


@pytest.mark.parametrize(
    ("model", "official", "shrink"),
    [
        ("clip_b16", openai_in_transformers, SMALL_CLIP | {"hidden_act": "gelu"}),
        ("siglip", SIGLIP, SMALL_SIGLIP | {"hidden_act": "gelu"}),
        ("clip_g14", big_g, {"embed_dim": 32, "vision_cfg": SMALL_TOWER, "quick_gelu": True}),
    ],
)
def test_a_wrong_activation_shows(model, official, shrink, tmp_path):
    pixels = 56 if model == "clip_g14" else None
    with pytest.raises(AssertionError, match=rf"^{model}@"):
        check(Case(model, official, "the right activation", shrink=shrink, pixels=pixels), tmp_path)


def test_two_tensors_in_each_other_s_place_show(tmp_path):
    """All parameters are random and different, so that a wrong table of names cannot pass."""

    def swapped(options):
        side = openai_in_transformers(options)
        first, second = (f"vision_model.encoder.layers.0.layer_norm{i}.bias" for i in (1, 2))
        side.state[first], side.state[second] = side.state[second], side.state[first]
        return side

    with pytest.raises(AssertionError, match=r"^clip_b16@projected_embedding"):
        check(Case("clip_b16", swapped, OPENAI, shrink=SMALL_CLIP), tmp_path)


def test_the_two_gelus_of_siglip_differ():
    """Why the cards name the activation: timm's own definition of the tower has the exact one."""
    picture = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    towers = [
        randomised(
            timm.create_model("vit_so400m_patch14_siglip_384", img_size=28, act_layer=act, **SMALL_TIMM)
        )
        for act in ("gelu", "gelu_tanh")
    ]
    exact, approximate = (tower(picture).numpy() for tower in towers)
    assert 1e-4 < relative_difference(exact, approximate) < 1e-1
