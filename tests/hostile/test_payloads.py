"""Files that would run code when they are read by careless programs: the real scripts do not run it."""

import json
import os
import pickle
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save

from discern.contracts import MANIFEST, write_table
from discern.dataset_card import DatasetCard
from discern.encoders.checkpoint import Checkpoint
from discern.encoders.record import write_record
from tests.hostile.bounds import guarded, scratch, tried
from tests.hostile.values import damaged
from tests.survived import survived
from tests.workflow.harness import ROOT

PWNED = Path("pwned")
SPEC = {
    "name": "planted", "loader": {"route": "timm", "arch": "test_vit"},
    "preprocess": {"resize": "squash", "size": 160}, "volume": None,
    "feature": {"name": "vector", "d": 64, "output": ""}, "weights": {"kind": "manual", "place": "model"},
}  # fmt: skip


class Payload:
    def __reduce__(self):
        return (os.mkdir, (str(PWNED.absolute()),))


def zipped(path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "config": Payload()}, path)


def legacy(path):
    torch.save({"a": torch.ones(2), "config": Payload()}, path, _use_new_zipfile_serialization=False)


def bare(path):
    path.write_bytes(pickle.dumps(Payload()))


def in_program(path):
    """A TorchScript archive whose pickle is another one."""
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, body in members.items():
            archive.writestr(name, pickle.dumps(Payload(), 2) if name.endswith("data.pkl") else body)


def object_array(path):
    with path.open("wb") as sink:
        np.savez(sink, images=np.array([Payload()], dtype=object), labels=np.array([0]))


def custom_operator(path):
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph([helper.make_node("Evil", ["x"], ["y"], domain="own")], "g", [entry], [end])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def foreign_file(path):
    """An ONNX graph whose weights are said to lie elsewhere on the disk."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../../../etc/hostname")
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [entry], [end], [tensor])
    path.write_bytes(helper.make_model(graph).SerializeToString())


CASES = {
    "pt": ("timm", "model.pt", zipped),
    "pth": ("timm", "model.pth", zipped),
    "pth of old": ("timm", "model.pth", legacy),
    "bin": ("timm", "model.bin", zipped),
    "ckpt": ("timm", "model.ckpt", legacy),
    "tar": ("timm", "model.tar", legacy),
    "bare pickle": ("timm", "model.pth", bare),
    "named safetensors": ("timm", "model.safetensors", bare),
    "joblib": ("timm", "model.joblib", bare),
    "npz": ("timm", "model.npz", object_array),
    "TorchScript for weights": ("timm", "model.pt", in_program),
    "TorchScript": ("torchscript", "model.pt", in_program),
    "TorchScript, bare pickle": ("torchscript", "model.pt", bare),
    "TorchScript, checkpoint": ("torchscript", "model.pt", zipped),
    "ONNX, bare pickle": ("onnx", "model.onnx", bare),
    "ONNX, own operator": ("onnx", "model.onnx", custom_operator),
    "ONNX, foreign file": ("onnx", "model.onnx", foreign_file),
}


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "path", list(sys.path))
    Image.new("RGB", (20, 20)).save("a.png")
    row = dict.fromkeys(MANIFEST.columns) | {
        "image_id": "a", "path": "a.png", "sha256": "0" * 64, "label": 0, "label_name": "a", "width": 20,
        "height": 20, "mode": "RGB",
    }  # fmt: skip
    about = {"dataset": "planted", "root": str(tmp_path), "made": "", "decoding": {}}
    write_table(MANIFEST, "manifest.parquet", {k: [v] for k, v in row.items()}, about)
    return "manifest.parquet"


def script(name, *arguments):
    """A script of the workflow, in this process, which has the libraries at hand; its exit."""
    path = ROOT / "workflow" / "scripts" / f"{name}.py"
    argv, sys.argv = sys.argv, [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        return str(end.code)
    finally:
        sys.argv = argv
    return ""


@pytest.mark.parametrize("case", CASES)
def test_extraction_runs_no_code_of_a_file(case, manifest):
    route, name, write = CASES[case]
    write(Path(name))
    write_record("planted", [Path(name)], Path("fetched.json"))
    loader = {"route": route} | ({"arch": "test_vit"} if route == "timm" else {})
    spec = SPEC | {"loader": loader}
    said = script("extract_features", "--spec", json.dumps(spec), "--manifest", manifest, "--weights",
                  "fetched.json", "--device", "cpu", "--out", "x.parquet")  # fmt: skip
    assert said.startswith("error: "), said
    assert not PWNED.exists()
    assert not Path("x.parquet").exists()
    survived("weights that hold code: extraction without the opt-in", tried=1)


def test_the_payload_is_real(manifest):
    """What careless reading would have done."""
    for write, read in (
        (bare, lambda p: pickle.loads(p.read_bytes())),
        (zipped, lambda p: torch.load(p, weights_only=False)),
        (object_array, lambda p: np.load(p, allow_pickle=True)["images"]),
    ):
        write(Path("x.npz"))
        read(Path("x.npz"))
        assert PWNED.is_dir()
        PWNED.rmdir()


def test_arrays_of_objects_are_no_pictures(manifest):
    object_array(Path("x.npz"))
    card = DatasetCard.model_validate({
        "name": "x", "source": {"kind": "manual", "place": "x.npz"},
        "adapter": {"kind": "npz", "file": "x.npz", "splits": [], "images": "images", "targets": "labels"},
        "classes": [{"name": "a"}, {"name": "b"}],
    })  # fmt: skip
    Path("fetched.json").write_text(json.dumps({"root": str(Path.cwd()), "files": {}, "source": []}))
    said = script("prepare_dataset", "--card", card.model_dump_json(), "--record", "fetched.json",
                  "--made", "made", "--inspected", "seen", "--manifest", "m.parquet",
                  "--audit", "a.json")  # fmt: skip
    assert said.startswith("error: "), said
    assert not PWNED.exists()


def test_foreign_code_is_trusted_in_one_place():
    """Only the route behind the opt-in passes the word on, and nothing else reads pickles freely."""
    trusting, unpickling = set(), set()
    for file in (ROOT / "src" / "discern").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        trusting |= {file.name} if "trust_remote_code=True" in text else set()
        free = ("pickle.load", "joblib", "allow_pickle=True", "eval(", "os.system", "shell=True")
        unpickling |= {file.name} if any(word in text.replace(".eval(", "") for word in free) else set()
    assert trusting == {"remote_code_route.py"}
    assert unpickling == set()


STATE = {"a.weight": torch.ones(3, 4), "b": torch.arange(6.0)}


@pytest.mark.parametrize("kind", ["safetensors", "pth", "legacy.pth"])
@settings(max_examples=tried(25))
@given(data=st.data())
def test_damaged_checkpoints(kind, data):
    with scratch() as folder:
        file = folder / f"x.{kind}"
        if kind == "safetensors":
            file.write_bytes(save(STATE))
        else:
            torch.save(STATE, file, _use_new_zipfile_serialization=kind == "pth")
        file.write_bytes(data.draw(damaged(file.read_bytes())))
        with guarded():
            checkpoint = Checkpoint([file], [""])
            for _, tensor in checkpoint.read(checkpoint.shapes):
                tensor.sum()
    survived("checkpoints: damaged", tried=1)
