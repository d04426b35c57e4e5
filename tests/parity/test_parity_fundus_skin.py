"""FLAIR, KeepFIT, VisionUnite and CLIP-DR on fundus photographs; MONET, MAKE and DermLIP on skin.

The trunks are the libraries' own; what the authors put around them (FLAIR's projection, VisionUnite's
sum of two towers) is written out here a second time, from their classes.
"""

from __future__ import annotations

import json

import open_clip
import pytest
import timm
import torch
import torchvision
import transformers

from discern.encoders.base import load_encoder
from discern.errors import DiscernError
from discern.model_card import Preprocess
from tests.parity.harness import (
    CARDS,
    Case,
    Official,
    check,
    check_size,
    merged,
    photographs,
    random_tensor,
    randomised,
    record,
    relative_difference,
    write_safetensors,
)

TORCHVISION = f"torchvision {torchvision.__version__.split('+')[0]}"
OPEN_CLIP = f"open_clip {open_clip.__version__}"


def others(*names: str) -> dict[str, torch.Tensor]:
    """What a published file holds beside the image encoder; small, as it must be left alone."""
    return {name: torch.ones(3, 2) for name in names}


# FLAIR and KeepFIT -------------------------------------------------------------------------------


def flair(options):
    """Their class: ResNet-50 with an identity for fc; x / |x|, then a matrix without bias."""
    trunk = torchvision.models.resnet50(weights=None)
    trunk.fc = torch.nn.Identity()
    randomised(trunk)
    matrix = random_tensor("projection.weight", (512, 2048), torch.Generator().manual_seed(1))

    def projected(pictures):
        pool = trunk(pictures)
        return (pool / pool.norm(dim=-1, keepdim=True)) @ matrix.T

    state = {f"vision_model.model.{k}": v for k, v in trunk.state_dict().items()}
    state["vision_model.projection_head_vision.projection.weight"] = matrix
    beside = others("text_model.model.embeddings.weight", "text_model.projection_head_text.projection.weight")
    return Official(state | beside, {"pooled": trunk, "projected_embedding": projected})


@pytest.mark.parametrize("model", ["flair", "keepfit", "keepfit@half_flair"])
def test_flair_on_small_pictures(model, tmp_path):
    removed = ("vision_model.model.layer2.1.bn2.running_var", "")
    check(Case(model, flair, TORCHVISION, pixels=96, removed=removed), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("model", ["flair", "keepfit"])
def test_flair_at_full_size(model, tmp_path):
    check(Case(model, flair, TORCHVISION), tmp_path)


# VisionUnite -------------------------------------------------------------------------------------

SMALL_EVA = {"depth": 2, "img_size": 112}
SMALL_CLIP = {"layers": 2, "width": 64, "image_size": 56}


def visionunite(options):
    """eva02(x) + the first of what open_clip's CLIP returns for the resized x, which has unit length."""
    eva = options.get("eva02_options") or {}
    trunk = randomised(timm.create_model("eva02_base_patch14_448", num_classes=0, **eva))
    config = open_clip.get_model_config("ViT-L-14-quickgelu")
    config["vision_cfg"] |= options.get("clip_options") or {}
    config["embed_dim"] = trunk.num_features
    config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 2, "vocab_size": 100}
    clip = randomised(open_clip.CLIP(**config))
    side = config["vision_cfg"]["image_size"]
    # Their torchvision resized tensors without antialiasing, unless told otherwise.
    resize = torchvision.transforms.Resize((side, side), antialias=options["antialias"])
    state = {f"eva02.model.{k}": v for k, v in trunk.state_dict().items()}
    state |= {f"clip.{k}": v for k, v in clip.state_dict().items()}
    state |= others("adapter.weight", "llama.layers.0.attention.wq.weight", "logit_scale")
    return Official(
        state,
        {
            "fused": lambda x: trunk(x) + clip(resize(x))[0],
            "eva02_only": trunk,
            "clip_only": lambda x: clip.encode_image(resize(x)),
        },
    )


@pytest.mark.parametrize("model", ["visionunite", "visionunite@antialiased"])
def test_visionunite(model, tmp_path):
    case = Case(
        model,
        visionunite,
        f"timm {timm.__version__}, {OPEN_CLIP}",
        shrink={"eva02_options": SMALL_EVA, "clip_options": SMALL_CLIP},
        pixels=112,
        wrapper="model",
        removed=("clip.visual.transformer.resblocks.1.mlp.c_fc.weight", ""),
    )
    check(case, tmp_path)


@pytest.mark.full
def test_visionunite_at_full_size(tmp_path):
    check(
        Case("visionunite", visionunite, f"timm {timm.__version__}, {OPEN_CLIP}", wrapper="model"), tmp_path
    )


# CLIP-DR -----------------------------------------------------------------------------------------


def clip_dr(options):
    """The image encoder of a whole CLIP RN50; the mean before its attention pool, by a hook."""
    config = open_clip.get_model_config("RN50-quickgelu")
    config["text_cfg"] |= {"layers": 1, "vocab_size": 100}
    clip = randomised(open_clip.CLIP(**config))
    seen = []
    clip.visual.layer4.register_forward_hook(lambda module, inputs, output: seen.append(output))

    def pre_attnpool_mean(pictures):
        clip.encode_image(pictures)
        return seen.pop().flatten(2).mean(dim=2)

    state = {f"module.image_encoder.{k}": v for k, v in clip.visual.state_dict().items()}
    text = {f"module.text_encoder.{k}": v for k, v in clip.transformer.state_dict().items()}
    beside = others("module.prompt_learner.context_embeds", "module.logit_scale")
    return Official(
        state | text | beside,
        {"image_embedding": clip.encode_image, "pre_attnpool_mean": pre_attnpool_mean},
    )


def test_clip_dr_at_full_size(tmp_path):
    removed = ("module.image_encoder.attnpool.k_proj.weight", "attnpool.k_proj.weight")
    check(Case("clip_dr", clip_dr, OPEN_CLIP, wrapper="state_dict", removed=removed), tmp_path)


# MONET -------------------------------------------------------------------------------------------


def monet(options):
    """transformers' whole CLIPModel with a small text side."""
    vision = {k: v for k, v in options.items() if k != "projection_dim"}
    text = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config=vision, text_config=text | {"vocab_size": 100}, projection_dim=options["projection_dim"]
    )
    module = randomised(transformers.CLIPModel(config))
    state = dict(module.state_dict()) | {"vision_model.embeddings.position_ids": torch.arange(257)[None]}
    return Official(
        state,
        {
            "projected_embedding": lambda x: module.get_image_features(x).pooler_output,
            "pre_projection_cls": lambda x: module.vision_model(x).pooler_output,
        },
    )


def test_monet(tmp_path):
    case = Case(
        "monet",
        monet,
        f"transformers {transformers.__version__}",
        shrink={
            "num_hidden_layers": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 4,
        },
        pixels=56,
    )
    # The features' own options are shrunk like the card's; position embeddings too.
    case.shrink["image_size"] = 56
    check(case, tmp_path)


@pytest.mark.full
def test_monet_at_full_size(tmp_path):
    check(Case("monet", monet, f"transformers {transformers.__version__}"), tmp_path)


# MAKE and DermLIP --------------------------------------------------------------------------------

SMALL = {"embed_dim": 24, "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 16}}


def publish(folder, options, quick_gelu):
    """A hub folder as open_clip's upload writes it, random weights; quick_gelu None: not mentioned."""
    config = open_clip.get_model_config("ViT-B-16")
    config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 2}
    config |= options | ({} if quick_gelu is None else {"quick_gelu": quick_gelu})
    module = randomised(open_clip.CLIP(**config))
    files = write_safetensors(module.state_dict(), folder, "open_clip_model.safetensors")
    file = folder / "open_clip_config.json"
    file.write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return files | {file.name: file}


def features(model, weights, options, pictures):
    """Every feature of the card, made by our route from the published folder."""
    found = {}
    for feature in CARDS[model].features:
        spec = CARDS[model].selected(feature.name).extraction_spec()
        spec["loader"]["options"] = merged(spec["loader"]["options"], options)
        spec["feature"]["d"] = {"projected_embedding": 24, "pre_projection_cls": 64}[feature.name]
        found[feature.name] = load_encoder(spec, weights, "cpu").encode(pictures)
    return found


@pytest.mark.parametrize("quick_gelu", [None, False, True])
@pytest.mark.parametrize("model", ["make", "dermlip", "dermlip@zero_shot_transform"])
def test_published_activation_is_obeyed(model, quick_gelu, tmp_path):
    """open_clip's public loader reads the same folder; its image tower and ours agree."""
    weights = publish(tmp_path, SMALL, quick_gelu)
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    pictures = photographs(CARDS[model].transform)
    found = features(model, weights, SMALL, pictures)
    expected = {"projected_embedding": theirs.encode_image(torch.from_numpy(pictures)).numpy()}
    theirs.visual.proj = None
    expected["pre_projection_cls"] = theirs.encode_image(torch.from_numpy(pictures)).numpy()
    figures = [relative_difference(found[name], expected[name]) for name in expected]
    assert max(figures) < 1e-4
    card = CARDS[model]
    record(model, "official", OPEN_CLIP, max(figures), card.feature.d, check_size(card))


@pytest.mark.parametrize("model", ["make@quickgelu", "dermlip@quickgelu"])
def test_trained_activation_against_a_published_file_without_it(model, tmp_path):
    weights = publish(tmp_path, SMALL, None)
    pictures = photographs(CARDS[model].transform)
    small = SMALL["vision_cfg"] | {"arch": "ViT-B-16", "quick_gelu": True}
    spec = CARDS[model].extraction_spec()
    spec["loader"]["options"] = small
    with pytest.raises(DiscernError, match="shape"):  # embed_dim is the architecture's: 512, not 24
        load_encoder(spec, weights, "cpu")
    weights = publish(tmp_path, SMALL | {"embed_dim": 512}, None)
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}", force_quick_gelu=True)
    expected = theirs.encode_image(torch.from_numpy(pictures)).numpy()
    figure = relative_difference(load_encoder(spec, weights, "cpu").encode(pictures), expected)
    assert figure < 1e-4
    plain, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    other = plain.encode_image(torch.from_numpy(pictures)).numpy()
    assert relative_difference(other, expected) > 1e-3  # the activation shows
    record(model, "official", OPEN_CLIP, figure, CARDS[model].feature.d, check_size(CARDS[model]))


@pytest.mark.parametrize("model", ["make", "dermlip"])
def test_one_tensor_less_or_more_is_refused(model, tmp_path):
    weights = publish(tmp_path, SMALL, True)
    from safetensors.torch import load_file

    state = load_file(weights["open_clip_model.safetensors"])
    pictures = photographs(Preprocess(resize="squash", size=224))
    state.pop("visual.transformer.resblocks.1.ln_2.bias")
    write_safetensors(state, tmp_path, "open_clip_model.safetensors")
    with pytest.raises(DiscernError, match=r"transformer\.resblocks\.1\.ln_2\.bias"):
        features(model, weights, SMALL, pictures)
    weights = publish(tmp_path, SMALL, True)
    write_safetensors(
        load_file(weights["open_clip_model.safetensors"]) | {"visual.extra": torch.ones(2)},
        tmp_path,
        "open_clip_model.safetensors",
    )
    with pytest.raises(DiscernError, match=r"visual\.extra"):
        features(model, weights, SMALL, pictures)
