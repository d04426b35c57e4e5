"""The README's five-line cards, one of each kind: they stand in a study and make features."""

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import open_clip
import pytest
import timm
import torch
import transformers
import yaml
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file

from discern import preflight
from discern.config import load_study
from discern.contracts import FEATURES, MANIFEST, feature_matrix, read_table, write_table
from discern.encoders import preprocess
from discern.model_card import ModelCard
from discern.plan import Plan, dump

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "README.md").read_text().split("## Your own model")[1].split("\n## ")[0]
TEXT = re.search(r"```yaml\n(.*?)```", SECTION, re.DOTALL)[1].split("---\n")
CARDS = {yaml.safe_load(text)["name"]: text for text in TEXT}
N = 3

MODULE = """
import torch

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 256)

    def forward(self, pictures):
        return self.layer(pictures.mean(dim=(2, 3)))

def build():
    return Network()
"""


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 256)

    def forward(self, pictures):
        return self.layer(pictures.mean(dim=(2, 3)))


def randomised(module):
    generator = torch.Generator().manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.02, 0.1, generator=generator)
    return module.eval()


def plain(state):
    return {k: v.contiguous().clone() for k, v in state.items()}


def my_timm(folder):
    module = randomised(timm.create_model("resnet18", num_classes=7))
    save_file(plain(module.state_dict()), folder / "model.safetensors")
    return lambda x: module.forward_head(module.forward_features(x), pre_logits=True)


def my_open_clip(folder):
    vision = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 32, "image_size": 224}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=512, vision_cfg=dict(vision), text_cfg=text, quick_gelu=True)
    randomised(model)
    save_file(plain(model.state_dict()), folder / "open_clip_model.safetensors")
    published = {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": published}))
    return model.encode_image


def my_transformers(folder):
    sizes = {"hidden_size": 768, "intermediate_size": 64, "num_hidden_layers": 1, "patch_size": 32}
    config = transformers.SiglipVisionConfig(**sizes, hidden_act="relu")
    module = randomised(transformers.SiglipVisionModel(config))
    names = {"vision_model." + k.removeprefix("vision_model."): v for k, v in module.state_dict().items()}
    save_file(plain(names) | {"logit_scale": torch.ones(())}, folder / "model.safetensors")
    published = {"model_type": "siglip", "vision_config": config.to_dict()}
    (folder / "config.json").write_text(json.dumps(published))
    return lambda x: module(pixel_values=x).pooler_output


def my_script(folder):
    module = randomised(Network())
    torch.jit.save(torch.jit.script(module), folder / "model.pt")
    return module


def my_onnx(folder):
    module = randomised(Network())
    weight, bias = module.layer.weight.detach().T.contiguous(), module.layer.bias.detach()
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
        helper.make_tensor("weight", TensorProto.FLOAT, [3, 256], weight.flatten().tolist()),
        helper.make_tensor("bias", TensorProto.FLOAT, [256], bias.tolist()),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["pictures", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["vector"]),
    ]
    entry = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, 224, 224])
    end = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 256])
    graph = helper.make_graph(nodes, "planted", [entry], [end], constants)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "model.onnx")
    return module


def my_network(folder):
    module = randomised(Network())
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, folder / "model.pth")
    Path("my_models.py").write_text(MODULE)
    return module


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A few pictures and their manifest."""
    folder = tmp_path_factory.mktemp("pictures")
    columns = {name: [] for name in MANIFEST.columns}
    generator = np.random.default_rng(0)
    for i in range(N):
        path = folder / f"{i}.png"
        Image.fromarray(generator.integers(0, 256, (250, 240 + 10 * i, 3), dtype=np.uint8)).save(path)
        row = dict.fromkeys(MANIFEST.columns) | {
            "image_id": f"image_{i}", "path": path.name, "label": 0, "label_name": "a",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "width": 240 + 10 * i, "height": 250, "mode": "RGB",
        }  # fmt: skip
        for name, value in row.items():
            columns[name].append(value)
    about = {"dataset": "planted", "root": str(folder), "made": "", "decoding": {}}
    write_table(MANIFEST, folder / "manifest.parquet", columns, about)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with our scripts and environments and the six cards in a registry of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "path", list(sys.path))
    shutil.copytree(ROOT / "envs", "envs")
    Path("registry/models").mkdir(parents=True)
    for name, text in CARDS.items():
        Path("registry/models", f"{name}.yaml").write_text(text)
    return tmp_path


def script(name, *arguments, fresh):
    """A script of the workflow; most run in this process, which has the libraries at hand already."""
    path = str(ROOT / "workflow" / "scripts" / f"{name}.py")
    if fresh:
        done = subprocess.run([sys.executable, path, *arguments], text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return
    argv, sys.argv = sys.argv, [path, *arguments]
    try:
        sys.path.insert(0, str(Path(path).parent))
        runpy.run_path(path, run_name="__main__")
    finally:
        sys.argv = argv


@pytest.mark.parametrize("name", CARDS)
def test_a_card_of_the_readme_makes_features(project, pictures, name):
    card = ModelCard.model_validate(yaml.safe_load(CARDS[name]))
    assert len(CARDS[name].strip().splitlines()) <= 6
    folder = Path("resources/weights", name)
    folder.mkdir(parents=True)
    forward = globals()[name](folder)
    fresh = name == "my_network"  # which must find its module from the working folder
    record, out = folder / "fetched.json", Path("features.parquet")
    files = ["--downloads", "downloads", "--out", str(record)]
    script("fetch_weights", "--card", dump(card), *files, fresh=False)
    script(
        "extract_features",
        *("--spec", dump(card.extraction_spec()), "--manifest", str(pictures / "manifest.parquet")),
        *("--weights", str(record), "--out", str(out), "--device", "cpu"),
        fresh=fresh,
    )
    table, about = read_table(FEATURES, out)
    assert about["model"] == name
    inputs = [preprocess.apply(Image.open(pictures / f"{i}.png"), card.transform) for i in range(N)]
    with torch.inference_mode():
        truth = forward(torch.from_numpy(np.stack(inputs))).numpy()
    found = feature_matrix(table)
    assert found.shape == (N, card.feature.d)
    assert np.allclose(found, truth, atol=1e-5 * np.abs(truth).max())
    assert np.ptp(found, axis=0).max() > 0


def study_of_dots():
    """A study of the six models on one data set."""
    data = {
        "name": "dots", "title": "Dots", "modality": "CT", "licence": "none",
        "source": {"kind": "manual", "page": "https://example.org/dots", "place": "dots.zip"},
        "adapter": {"kind": "image_folder"}, "classes": [{"name": "a"}, {"name": "b"}],
    }  # fmt: skip
    Path("registry/datasets").mkdir()
    Path("registry/datasets/dots.yaml").write_text(yaml.safe_dump(data))
    return load_study({"study": "mine", "models": list(CARDS), "datasets": ["dots"], "reference": None})


def test_the_cards_stand_in_a_study(project):
    study = study_of_dots()
    plan = Plan(study, base=".")
    preflight.check_cards(study, plan.registry)
    assert {c.model for c in plan.cells} == set(CARDS)
    missing = {m.name: m for m in preflight.missing_inputs(study, plan.registry)}
    assert missing.keys() == {"dots", *CARDS}
    for name in CARDS:
        assert missing[name].place == f"resources/weights/{name}"
        folder = Path("resources/weights", name)
        folder.mkdir(parents=True)
        globals()[name](folder)
    assert [m.name for m in preflight.missing_inputs(study, plan.registry)] == ["dots"]


def test_a_changed_function_is_another_fingerprint(project):
    shutil.copytree(ROOT / "workflow" / "scripts", "workflow/scripts")
    study = study_of_dots()
    Path("my_models.py").write_text(MODULE)
    before = {name: Plan(study).fingerprint(name) for name in ("my_network", "my_timm")}
    Path("my_models.py").write_text(MODULE.replace("mean", "amax"))
    after = {name: Plan(study).fingerprint(name) for name in before}
    assert after["my_timm"] == before["my_timm"]
    assert after["my_network"] != before["my_network"]
