"""CXR-CLIP and Mammo-CLIP against the libraries that their authors built on."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms

from discern import environments
from discern.encoders.base import load_encoder
from discern.model_card import Preprocess
from tests.parity.harness import (
    CARDS,
    TOLERANCE,
    Case,
    Official,
    check,
    photographs,
    random_tensor,
    randomised,
    record,
    relative_difference,
)

ROOT = Path(__file__).resolve().parents[2]


# CXR-CLIP ---------------------------------------------------------------------------------------------


def clinical(size, mean, std):
    """The authors' evaluation transform."""
    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(mean, std)])


def projection(width):
    """The authors' head and what their file holds beside the image side."""
    head = randomised(torch.nn.Linear(width, 512))
    state = {f"image_projection.projection.{k}": v for k, v in head.state_dict().items()}
    return head, state | {"logit_scale": torch.ones(()), "text_projection.projection.bias": torch.ones(512)}


def swin_names(state):
    """timm's Swin as transformers 4.26 and therefore the published file call it."""
    parts = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.fc1": "intermediate.dense",
             "mlp.fc2": "output.dense", "attn.proj": "attention.output.dense",
             "attn.relative_position_bias_table": "attention.self.relative_position_bias_table"}  # fmt: skip
    published = {}
    for name, tensor in state.items():
        block = re.fullmatch(r"layers\.(\d)\.blocks\.(\d)\.(.+?)(\.weight|\.bias|)", name)
        down = re.fullmatch(r"layers\.(\d)\.(downsample\..+)", name)
        if block and block[3] == "attn.qkv":
            roles = f"encoder.layers.{block[1]}.blocks.{block[2]}.attention.self."
            for role, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                published[roles + role + block[4]] = part
        elif block:
            published[f"encoder.layers.{block[1]}.blocks.{block[2]}.{parts[block[3]]}{block[4]}"] = tensor
        elif down:  # timm counts it to the stage that it opens
            published[f"encoder.layers.{int(down[1]) - 1}.{down[2]}"] = tensor
        else:
            name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
            name = name.replace("patch_embed.norm", "embeddings.norm")
            published[re.sub(r"^norm\.", "layernorm.", name)] = tensor
    for i, blocks in enumerate((2, 2, 6, 2)):
        for j in range(blocks):
            place = f"encoder.layers.{i}.blocks.{j}.attention.self.relative_position_index"
            published[place] = torch.zeros(49, 49, dtype=torch.long)
    return {"image_encoder.image_encoder." + k: v for k, v in published.items()}


def official_swin(options):
    """timm's Swin, which shares no code with transformers'."""
    trunk = randomised(timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, global_pool=""))
    head, state = projection(768)

    def tokens(pictures):
        return trunk(pictures).flatten(1, 2)

    return Official(
        state=swin_names(trunk.state_dict()) | state,
        features={
            "official_token0": lambda x: tokens(x)[:, 0],
            "token_mean": lambda x: tokens(x).mean(dim=1),
            "projected_embedding": lambda x: head(tokens(x)[:, 0]),
        },
        transform=clinical(224, [0.5] * 3, [0.5] * 3),
    )


KEY = "encoder.layers.2.blocks.3.attention"


def test_cxr_clip(tmp_path):
    removed = (f"image_encoder.image_encoder.{KEY}.self.key.bias", f"{KEY}.k_proj.bias")
    check(Case("cxr_clip", official_swin, "timm 1.0.31", wrapper="model", removed=removed), tmp_path)


def official_resnet50(options):
    """torchvision's network, whose names the authors keep."""
    trunk = torchvision.models.resnet50()
    trunk.fc = torch.nn.Identity()
    head, state = projection(2048)
    return Official(
        state={"image_encoder.resnet." + k: v for k, v in randomised(trunk).state_dict().items()} | state,
        features={"resnet50_pooled": trunk, "projected_embedding": lambda x: head(trunk(x))},
        transform=clinical(224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    )


def test_cxr_clip_resnet50(tmp_path):
    removed = ("image_encoder.resnet.layer3.2.bn1.running_var", "layer3.2.bn1.running_var")
    case = Case("cxr_clip@r50_mcc", official_resnet50, "torchvision 0.28.0", wrapper="model", removed=removed)
    check(case, tmp_path)


@pytest.mark.parametrize(
    ("variant", "same"), [("swint_mc", ""), ("swint_m", ""), ("r50_mc", "@r50_mcc"), ("r50_m", "@r50_mcc")]
)
def test_training_combinations_of_cxr_clip_differ_in_their_file_alone(variant, same):
    spec, other = (CARDS[name].extraction_spec() for name in (f"cxr_clip@{variant}", f"cxr_clip{same}"))
    assert spec.pop("weights")["url"].endswith(f"/{variant}.tar")
    assert spec | {"name": "", "weights": {}} == other | {"name": "", "weights": {}}


AUTHORS = """
import json, sys
import numpy, torch, transformers
from safetensors.torch import load_file

folder, step = sys.argv[1:]
model = transformers.SwinModel(transformers.SwinConfig()).eval()
if step == "names":
    print(json.dumps({k: list(v.shape) for k, v in model.state_dict().items() if v.is_floating_point()}))
else:
    print(model.load_state_dict(load_file(folder + "/random.safetensors"), strict=False).unexpected_keys)
    with torch.no_grad():
        hidden = model(torch.from_numpy(numpy.load(folder + "/pictures.npy"))).last_hidden_state
    numpy.save(folder + "/hidden.npy", hidden.numpy())
    state = {"image_encoder.image_encoder." + k: v for k, v in model.state_dict().items()}
    torch.save({"model": state, "epoch": 3}, folder + "/published.pt")
"""


@pytest.mark.full
def test_cxr_clip_in_the_authors_transformers(tmp_path):
    """The authors' version of transformers, in an environment of its own, writes file and features."""
    pins = ROOT / "envs" / "cxr_clip_official.yaml"
    lock = ROOT / "resources" / "envs" / pins.stem / environments.environment_digest(pins) / "lock.txt"
    if not lock.is_file():
        environments.build(pins, lock)

    def run(step):
        command = [lock.parent / "bin" / "python", "-I", "-c", AUTHORS, tmp_path, step]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout

    card = CARDS["cxr_clip"]
    pictures = photographs(card.transform)
    np.save(tmp_path / "pictures.npy", pictures)
    generator = torch.Generator().manual_seed(0)
    shapes = json.loads(run("names"))
    assert len(shapes) == 219
    save_file({k: random_tensor(k, s, generator) for k, s in shapes.items()}, tmp_path / "random.safetensors")
    assert run("features").strip() == "[]"
    hidden = np.load(tmp_path / "hidden.npy")
    published = {"published.pt": tmp_path / "published.pt"}
    for name, theirs in (("official_token0", hidden[:, 0]), ("token_mean", hidden.mean(axis=1))):
        ours = load_encoder(card.selected(name).extraction_spec(), published, "cpu").encode(pictures)
        figure = relative_difference(ours, theirs)
        assert figure <= TOLERANCE
    record("cxr_clip", "official", "transformers 4.26.1 (authors' version)", figure, 768, card.params, True)


# Mammo-CLIP -------------------------------------------------------------------------------------------


def mammogram(image):
    """The authors' data set after the resize: its own range to 0..1, then mean and std."""
    pixels = np.asarray(image.resize((912, 1520), Image.Resampling.BILINEAR)).astype("float32")
    pixels -= pixels.min()
    pixels /= pixels.max()
    return ((pixels - 0.3089279) / 0.25053555408335154).transpose(2, 0, 1)


#: Of the last normalisation in each block. Random EfficientNets are chaotic: with 1 they blow the last
#: bit of float32 up to the whole feature, with much less the pictures leave no trace.
DAMPING = {"efficientnet-b5": 0.6, "efficientnet-b2": 0.7}


def official_mammo(options):
    """efficientnet-pytorch, of which the authors' network is a copy without the classifier."""
    from efficientnet_pytorch import EfficientNet

    trunk = EfficientNet.from_name(options["arch"], num_classes=1)
    width, trunk._fc = trunk._fc.in_features, torch.nn.Identity()
    for name, tensor in randomised(trunk).state_dict().items():
        if name.endswith("._bn2.weight"):
            tensor *= DAMPING[options["arch"]]
    head, state = projection(width)
    return Official(
        state={"image_encoder." + k: v for k, v in trunk.state_dict().items()} | state,
        features={"pooled": trunk, "projected_embedding": lambda x: head(trunk(x))},
        transform=mammogram,
    )


MAMMO = "efficientnet-pytorch 0.7.1"
LAST_BITS = 1e-6  # the authors stretch 0..255 to 0..1, the card 0..1 to 0..1


@pytest.mark.parametrize("model", ["mammo_clip", "mammo_clip@b2"])
def test_mammo_clip(tmp_path, model):
    removed = ("image_encoder._blocks.7._se_reduce.bias", "_blocks.7._se_reduce.bias")
    # The whole network; only the picture is small, and the padding fixed for another size all the same.
    case = Case(
        model, official_mammo, MAMMO, pixels=128, wrapper="model", removed=removed, pixel_tolerance=LAST_BITS
    )
    check(case, tmp_path)


@pytest.mark.full
def test_mammo_clip_in_full_size(tmp_path):
    case = Case("mammo_clip", official_mammo, MAMMO, wrapper="model", pixel_tolerance=LAST_BITS)
    check(case, tmp_path)


def test_mammo_clip_pads_for_one_size(tmp_path):
    """timm, which pads for the picture at hand, agrees at the nominal size of B2 and nowhere else."""
    state = official_mammo({"arch": "efficientnet-b2"}).state
    trunk = [v for k, v in state.items() if k.startswith("image_encoder.")]
    other = timm.create_model("tf_efficientnet_b2", num_classes=0).eval()
    # Both define their layers in the order of the network.
    other.load_state_dict(dict(zip(other.state_dict(), trunk, strict=True)))
    save_file(state, tmp_path / "model.safetensors")
    card = CARDS["mammo_clip@b2"]
    figures = {}
    for size in (260, 224):
        spec = card.extraction_spec()
        spec["preprocess"]["size"] = size
        encoder = load_encoder(spec, {"model.safetensors": tmp_path / "model.safetensors"}, "cpu")
        pictures = photographs(Preprocess.model_validate(spec["preprocess"]))
        theirs = other(torch.from_numpy(pictures)).numpy()
        figures[size] = relative_difference(encoder.encode(pictures), theirs)
    assert figures[260] <= TOLERANCE
    assert figures[224] > 0.01
    record("mammo_clip@b2", "official", "timm 1.0.31 at 260 px", figures[260], 1408, card.params, True)
