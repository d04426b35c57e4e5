"""CONCH, UNI, CHIEF's patch encoder and ViLa-MIL's backbone against the authors' own libraries."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from torchvision import transforms

from discern.encoders.text import load_text_encoder
from tests.parity.harness import (
    CARDS,
    TOLERANCE,
    Case,
    Official,
    check,
    randomised,
    record_text,
    relative_difference,
    write_safetensors,
)

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def bilinear_crop(size):
    """The evaluation transform of UNI's authors, which CHIEF's have without the crop."""
    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(**IMAGENET)])


# CONCH ------------------------------------------------------------------------------------------------


def conch(options):
    """The authors' whole model; only its text side and decoder are always shallow."""
    from conch.open_clip_custom import coca_model

    file = Path(coca_model.__file__).with_name("model_configs") / "conch_ViT-B-16.json"
    config = json.loads(file.read_text())
    config.pop("custom_text")
    config["vision_cfg"] |= {"image_size": options["img_size"], "layers": options.get("depth", 12)}
    config["text_cfg"]["layers"] = config["multimodal_cfg"]["layers"] = 1
    return randomised(coca_model.CoCa(**config))


def official_conch(options):
    from conch.open_clip_custom import constants, transform

    model = conch(options)
    published = ("visual.", "text.", "logit_scale")  # the decoder was withheld
    return Official(
        state={k: v for k, v in model.state_dict().items() if k.startswith(published)},
        features={
            "attn_pooled": lambda x: model.encode_image(x, normalize=False, proj_contrast=False),
            "projected_embedding": lambda x: model.encode_image(x, normalize=False, proj_contrast=True),
            "trunk_cls": lambda x: model.visual.trunk(x)[:, 0],
        },
        transform=transform.image_transform(448, constants.OPENAI_DATASET_MEAN, constants.OPENAI_DATASET_STD),
    )


CONCH = "conch-fork 0.1.0"


def test_conch(tmp_path):
    query = ("visual.attn_pool_contrast.query", "attn_pool_contrast.query")
    check(
        Case("conch", official_conch, CONCH, shrink={"img_size": 112, "depth": 2}, pixels=112, removed=query),
        tmp_path,
    )


@pytest.mark.full
def test_conch_in_full_size(tmp_path):
    check(Case("conch", official_conch, CONCH), tmp_path)


def test_conch_text(tmp_path):
    """Tokens and tower; the authors' tokenize helper calls a method that transformers 5 has no more."""
    from conch.open_clip_custom import custom_tokenizer

    options = {"img_size": 112, "depth": 1}
    state = {k: v for k, v in official_conch(options).state.items() if not k.startswith("visual.")}
    model = conch(options)
    card = CARDS["conch"]
    text_cfg = card.text.loader.options["text_cfg"] | {"layers": 1}
    loader = card.text.loader.model_copy(update={"options": {"embed_dim": 512, "text_cfg": text_cfg}})
    card = card.model_copy(update={"text": card.text.model_copy(update={"loader": loader})})
    folder = tmp_path / "text"
    folder.mkdir()
    (member,) = card.text.tokenizer.files[0].members
    shutil.copy(Path(custom_tokenizer.__file__).parents[2] / member, folder)
    encoder = load_text_encoder(card, write_safetensors(state, tmp_path), folder)
    texts = ["H&E of invasive ductal Carcinoma.", "an image of stroma", "x " * 200]
    theirs = custom_tokenizer.get_tokenizer()(
        texts, max_length=127, truncation=True, padding="max_length", return_tensors="pt"
    )["input_ids"]
    ids, _ = encoder.tokenize(texts)
    assert torch.equal(ids, theirs)
    truth = model.encode_text(torch.nn.functional.pad(theirs, (0, 1)), normalize=False)
    figure = relative_difference(encoder.encode_text(texts), truth.numpy())
    record_text("conch", figure)
    assert figure <= TOLERANCE
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())


# UNI --------------------------------------------------------------------------------------------------


def official_uni(options):
    """timm with the arguments of the authors' helper."""
    arguments = {"img_size": 224, "patch_size": 16, "init_values": 1e-5, "num_classes": 0}
    arguments |= {"dynamic_img_size": True, "depth": options.get("depth", 24)}
    model = randomised(timm.create_model("vit_large_patch16_224", **arguments))

    def joined(x):
        tokens = model.forward_features(x)
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)

    return Official(
        state=model.state_dict(),
        features={"cls": model, "cls_patch_mean": joined},
        transform=bilinear_crop(224),
    )


UNI = "timm 1.0.31, as the authors build it"


def test_uni(tmp_path):
    check(Case("uni", official_uni, UNI, shrink={"depth": 1}, pixels=112), tmp_path)


@pytest.mark.full
def test_uni_in_full_size(tmp_path):
    check(Case("uni", official_uni, UNI), tmp_path)


# CHIEF ------------------------------------------------------------------------------------------------


class Stem(torch.nn.Module):
    """CTransPath's patch embedding as timm 0.5.4 wants it: tokens in a row."""

    def __init__(self, norm_layer, **unused):
        super().__init__()
        self.grid_size, self.num_patches = (56, 56), 56 * 56
        self.proj = torch.nn.Sequential(
            torch.nn.Conv2d(3, 12, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(12), torch.nn.ReLU(),
            torch.nn.Conv2d(12, 24, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(24), torch.nn.ReLU(),
            torch.nn.Conv2d(24, 96, 1),
        )  # fmt: skip
        self.norm = norm_layer(96)

    def forward(self, x):
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))


def official_chief(options):
    """The authors' patched timm 0.5.4, which keeps masks and indices in its files."""
    import timm_ctp

    model = timm_ctp.create_model("swin_tiny_patch4_window7_224", embed_layer=Stem, pretrained=False)
    model.head = torch.nn.Identity()
    masks = {k: v.clone() for k, v in model.state_dict().items() if k.endswith("attn_mask")}
    randomised(model).load_state_dict(masks, strict=False)  # masks are no weights
    assert len(model.state_dict()) == 200
    return Official(state=model.state_dict(), features={"pooled": model}, transform=bilinear_crop(224))


def test_chief(tmp_path):
    renamed = ("layers.0.downsample.reduction.weight", "layers.1.downsample.reduction.weight")
    check(Case("chief", official_chief, "timm-ctp 0.5.4", wrapper="model", removed=renamed), tmp_path)


# ViLa-MIL ---------------------------------------------------------------------------------------------


def official_rn50(options):
    """OpenAI's own network, as ViLa-MIL calls it, behind ViLa-MIL's transform."""
    # The package's front door imports a module that recent setuptools have no more.
    file = Path(importlib.util.find_spec("clip").origin).with_name("model.py")
    source = importlib.util.spec_from_file_location("openai_clip_model", file)
    clip = importlib.util.module_from_spec(source)
    source.loader.exec_module(clip)
    model = randomised(clip.ModifiedResNet(layers=(3, 4, 6, 3), output_dim=1024, heads=32))
    return Official(
        state={"visual." + k: v for k, v in model.state_dict().items()} | {"logit_scale": torch.ones(())},
        features={"clip_rn50": model},
        transform=resized_tensors(antialias=False),
    )


def resized_tensors(antialias):
    """ViLa-MIL's transform; torchvision before 0.17 did not antialias tensors."""
    steps = [transforms.ToTensor(), transforms.Resize((224, 224), antialias=antialias)]
    return transforms.Compose([*steps, transforms.Normalize(**IMAGENET)])


def antialiased_rn50(options):
    official = official_rn50(options)
    official.transform = resized_tensors(antialias=True)
    return official


RN50 = "clip-anytorch 2.6.0 (OpenAI's clip)"


def test_vila_mil(tmp_path):
    # Both resize in float32, in another order of additions; so below.
    removed = ("visual.attnpool.c_proj.bias", "attnpool.c_proj.bias")
    check(Case("vila_mil", official_rn50, RN50, removed=removed, pixel_tolerance=2e-5), tmp_path)


def test_vila_mil_antialiased(tmp_path):
    check(Case("vila_mil@antialiased", antialiased_rn50, RN50, pixel_tolerance=1e-4), tmp_path)
