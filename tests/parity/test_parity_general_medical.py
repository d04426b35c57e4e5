"""Medical models for every modality: BiomedCLIP, UniMed-CLIP, ConceptCLIP, MedSigLIP."""

import json
from functools import partial

import open_clip
import pytest
import timm
import torch
import transformers

from tests.parity.harness import Case, Official, check, randomised
from tests.parity.layouts import VIT, renamed, siglip_as_transformers
from tests.parity.test_parity_clip import OPENAI, SIGLIP, SMALL_SIGLIP, openai_tower

TRANSFORMERS = f"transformers {transformers.__version__}"
TIMM = f"timm {timm.__version__}"
HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


def biomedclip_reduced(options):
    """transformers' ViT and a linear layer, with the tensors of open_clip's tower."""
    vision = dict(options["vision_cfg"])
    state = randomised(open_clip.model._build_vision_tower(options["embed_dim"], vision)).state_dict()
    trunk = {k.removeprefix("trunk."): v for k, v in state.items() if k.startswith("trunk.")}
    config = transformers.ViTConfig(
        hidden_size=192, intermediate_size=768, num_attention_heads=3, layer_norm_eps=1e-6
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(renamed(trunk, VIT), strict=True)

    def cls(pictures):
        return model(pictures).last_hidden_state[:, 0]

    file = {f"visual.{k}": v for k, v in state.items()}
    file["text.transformer.embeddings.position_ids"] = torch.arange(512)[None]
    features = {"projected_embedding": lambda x: cls(x) @ state["head.proj.weight"].T, "trunk_cls": cls}
    return Official(file, features)


def biomedclip_full(folder, options):
    """open_clip's own road on a local copy of the repository, text tower included."""
    bert = folder / "bert"
    bert.mkdir()
    transformers.BertConfig(vocab_size=30522).save_pretrained(bert)
    text = {
        "hf_model_name": str(bert),
        "hf_tokenizer_name": str(bert),
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "hf_model_pretrained": False,
        "context_length": 256,
    }
    vision = {
        "timm_model_name": "vit_base_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    }
    mean_std = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    config = {
        "model_cfg": {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": mean_std,
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    blank = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    state = dict(randomised(blank).state_dict())
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    assert sum(v.numel() for v in blank.parameters()) == 195902721  # the published total
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    state["text.transformer.embeddings.position_ids"] = torch.arange(512)[None]
    features = {
        "projected_embedding": model.encode_image,
        "trunk_cls": model.visual.trunk,
    }
    return Official(state, features, transform)


def unimedclip(options):
    """OpenAI's tower beside a text tower, in open_clip's layout."""
    size = {"image_size": 56, "patch_size": 14, "hidden_size": 64, "num_hidden_layers": 2}
    tower, features = openai_tower(size | {"num_attention_heads": 1, "projection_dim": 32})
    state = {f"visual.{k}": v for k, v in tower.state_dict().items()}
    state |= {"text_encoder.proj.0.weight": torch.ones(2, 2), "logit_scale": torch.ones(())}
    return Official(state, features)


def unimedclip_transforms(side, options):
    """The same with the transform of the model's own size."""
    result = unimedclip(options)
    result.transform = open_clip.image_transform(side, is_train=False)
    return result


def conceptclip(options):
    """transformers' SigLIP with the exact GELU that ConceptCLIP's authors trained with."""
    sizes = {k: v for k, v in options.items() if k != "num_classes"}
    trunk = timm.create_model("vit_so400m_patch14_siglip_384", num_classes=0, **sizes)
    state = randomised(trunk).state_dict()
    width = state["norm.weight"].shape[0]
    config = transformers.SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=state["blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=len(trunk.blocks),
        num_attention_heads=options.get("num_heads", 16),
        image_size=384,
        patch_size=14,
        hidden_act="gelu",
    )
    model = transformers.SiglipVisionModel(config).eval()
    model.load_state_dict(siglip_as_transformers(state), strict=True)
    file = {f"visual.trunk.{k}": v for k, v in state.items()}
    file |= {"image_proj.0.weight": torch.ones(2, 2), "text_proj.weight": torch.ones(2, 2)}
    features = {
        "image_embedding": lambda x: model(x).pooler_output,
        "patch_mean": lambda x: model(x).last_hidden_state.mean(1),
    }
    transform = open_clip.image_transform(384, is_train=False, resize_mode="squash", **HALF)
    return Official(file, features, transform)


def medsiglip(options):
    """SigLIP's other size: the feature of the pooling head has another name on this card."""
    side = SIGLIP(options)
    features = {"pooler_output": side.features["pooled_embedding"], "patch_mean": side.features["patch_mean"]}
    squash = {"resize_mode": "squash", "interpolation": "bilinear"}
    return Official(side.state, features, open_clip.image_transform(448, is_train=False, **squash, **HALF))


SMALL_TOWER = {"image_size": 56, "layers": 2, "width": 64, "patch_size": 14}
SMALL_UNIMED = {"embed_dim": 32, "vision_cfg": SMALL_TOWER}
TINY = {"vision_cfg": {"timm_model_name": "vit_tiny_patch16_224"}}
WRAPPED = {"wrapper": "state_dict", "data_parallel": True, "pixels": 56}

CASES = [
    Case("biomedclip", biomedclip_reduced, TRANSFORMERS, shrink=TINY),
    Case("unimedclip", partial(unimedclip_transforms, 336), OPENAI, shrink=SMALL_UNIMED, **WRAPPED),
    Case("unimedclip@vit_b16", partial(unimedclip_transforms, 224), OPENAI, shrink=SMALL_UNIMED, **WRAPPED),
    Case("conceptclip", conceptclip, TRANSFORMERS, shrink={"embed_dim": 64, "depth": 2, "num_heads": 4}),
    Case("medsiglip", medsiglip, f"{TIMM}, tanh GELU", shrink=SMALL_SIGLIP),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model)
def test_reduced(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.full
def test_biomedclip_full_size(tmp_path):
    official = partial(biomedclip_full, tmp_path)
    check(Case("biomedclip", official, f"open_clip {open_clip.__version__}"), tmp_path / "ours")


@pytest.mark.full
def test_conceptclip_full_size(tmp_path):
    check(Case("conceptclip", conceptclip, TRANSFORMERS), tmp_path)


def test_unimedclip_without_quick_gelu_shows(tmp_path):
    shrink = SMALL_UNIMED | {"quick_gelu": False}
    with pytest.raises(AssertionError, match=r"^unimedclip@projected_embedding"):
        check(Case("unimedclip", unimedclip, OPENAI, shrink=shrink, **WRAPPED), tmp_path)
