"""The vision-only models, each against another library's implementation."""

from functools import partial

import pytest
import timm
import torch
import torchvision
import transformers
from timm.data import create_transform

from discern.encoders.torch_base import Undrawn
from tests.parity.harness import CARDS, Case, Official, check, check_size, randomised
from tests.parity.layouts import DINOV2, GIANT, TORCHVISION_VIT, VIT, renamed, small_timm_vit

SMALL_TIMM = {"embed_dim": 64, "depth": 2, "num_heads": 4}
SMALL_DINO = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 224}
TIMM = f"timm {timm.__version__}"
TRANSFORMERS = f"transformers {transformers.__version__}"


def torchvision_transform(arch, weights):
    return torchvision.models.get_model_weights(arch)[weights].transforms()


def vgg(options):
    """timm's VGG16, whose fully connected layers are convolutions."""
    with Undrawn():  # 134 million parameters on either side
        published = randomised(torchvision.models.vgg16(weights=None)).state_dict()
        model = timm.create_model("vgg16", num_classes=0).eval()
    state = {k: v for k, v in published.items() if k.startswith("features.")}
    for ours, theirs, shape in ((0, "fc1", (4096, 512, 7, 7)), (3, "fc2", (4096, 4096, 1, 1))):
        state[f"pre_logits.{theirs}.weight"] = published[f"classifier.{ours}.weight"].view(shape)
        state[f"pre_logits.{theirs}.bias"] = published[f"classifier.{ours}.bias"]
    model.load_state_dict(state, strict=True)
    features = {
        "fc7": lambda x: model.forward_head(model.forward_features(x)),
        "gap": lambda x: model.forward_features(x).mean((2, 3)),
    }
    return Official(published, features, torchvision_transform("vgg16", "IMAGENET1K_V1"))


def resnet(weights, options):
    """timm's ResNet-50, which has torchvision's names."""
    model = randomised(timm.create_model("resnet50"))
    return Official(
        dict(model.state_dict()),
        {"avgpool": lambda x: model.forward_head(model.forward_features(x), pre_logits=True)},
        torchvision_transform("resnet50", weights),
    )


def vit(trunk):
    """transformers' ViT with the tensors of a timm trunk, and its class token and patch mean."""
    width, heads = trunk["cls_token"].shape[-1], 4 if trunk["cls_token"].shape[-1] == 64 else 16
    config = transformers.ViTConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=len([k for k in trunk if k.endswith("norm1.weight")]),
        num_attention_heads=heads,
        layer_norm_eps=1e-6,
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(renamed(trunk, VIT), strict=True)
    return {
        "cls": lambda x: model(x).last_hidden_state[:, 0],
        "patch_mean": lambda x: model(x).last_hidden_state[:, 1:].mean(1),
    }


def timm_vit(classes, options):
    """timm's file, classifier included."""
    sizes = {k: v for k, v in options.items() if k != "num_classes"}
    state = randomised(timm.create_model("vit_large_patch16_224", num_classes=classes, **sizes)).state_dict()
    trunk = {k: v for k, v in state.items() if not k.startswith("head.")}
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    transform = create_transform(224, interpolation="bicubic", crop_pct=0.9, **half)
    return Official(dict(state), vit(trunk), transform)


def torchvision_vit(weights, options):
    """torchvision's file, classifier included."""
    state = randomised(torchvision.models.vit_l_16(weights=None)).state_dict()
    trunk = {k: v for k, v in renamed(state, TORCHVISION_VIT).items() if not k.startswith("head.")}
    return Official(dict(state), {"cls": vit(trunk)["cls"]}, torchvision_transform("vit_l_16", weights))


def dino(arch, tables, options):
    """timm's DINOv2 at the size of the stored positions, in the layout of facebook/dinov2-*."""
    model = small_timm_vit(arch, options)
    randomised(model)
    state = renamed(model.state_dict(), *tables)
    state["embeddings.mask_token"] = torch.ones(1, options["hidden_size"])
    transform = create_transform(224, interpolation="bicubic", crop_pct=0.875)

    def joined(pictures):
        tokens = model.forward_features(pictures)
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1)

    return Official(state, {"cls": model, "cls_patch_mean": joined}, transform)


QUERY = ("encoder.layer.1.attention.attention.query.weight", "encoder.layer.1.attention.q_proj.weight")
GATE = ("encoder.layer.1.mlp.weights_in.weight", "encoder.layer.1.mlp.gate_proj.weight")
WIDE = SMALL_DINO | {"mlp_ratio": 4}

# Both convolutional networks are quick at full size; their shrinking is none, but asks for the refusals.
CASES = [
    Case("vgg16", vgg, TIMM, shrink={"init_weights": False}, pixels=64),
    Case("resnet50", partial(resnet, "IMAGENET1K_V1"), TIMM, shrink={"norm_layer": None}),
    Case("resnet50@v2", partial(resnet, "IMAGENET1K_V2"), TIMM, shrink={"norm_layer": None}),
    Case("vit_l16", partial(timm_vit, 1000), TRANSFORMERS, shrink=SMALL_TIMM),
    Case("vit_l16@augreg_in21k", partial(timm_vit, 21843), TRANSFORMERS, shrink=SMALL_TIMM),
    Case(
        "dinov2", partial(dino, "vit_large_patch14_dinov2", [DINOV2]), TIMM, shrink=SMALL_DINO, removed=QUERY
    ),
    Case(
        "dinov2@base",
        partial(dino, "vit_base_patch14_dinov2", [DINOV2]),
        TIMM,
        shrink=SMALL_DINO,
        removed=QUERY,
    ),
    Case(
        "dinov2@giant",
        partial(dino, "vit_giant_patch14_dinov2", [GIANT, DINOV2]),
        TIMM,
        shrink=WIDE,
        removed=GATE,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model)
def test_reduced(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.parametrize("model", ["vit_l16@torchvision_v1", "vit_l16@torchvision_swag"])
def test_size_of_what_only_the_full_test_loads(model):
    check_size(CARDS[model])


@pytest.mark.full
@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("vit_l16@torchvision_v1", "IMAGENET1K_V1"),
        ("vit_l16@torchvision_swag", "IMAGENET1K_SWAG_LINEAR_V1"),
    ],
)
def test_full_size(model, weights, tmp_path):
    check(Case(model, partial(torchvision_vit, weights), TRANSFORMERS), tmp_path)
