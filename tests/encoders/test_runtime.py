"""The closed room for the authors' own loaders: links instead of the hub, tensors instead of pickles."""

import json
import os
import tarfile

import pytest
import torch
from safetensors.torch import save_file

from discern.encoders.base import Request
from discern.encoders.runtime import checkout, tensors_only, verify
from discern.encoders.torch_base import built_for
from discern.errors import DiscernError
from discern.model_card import Loader, Preprocess


def request(**weights):
    loader = Loader(route="llava_official", arch="llava_llama")
    return Request("m@official", loader, Preprocess(resize="pad", size=8), "", 3, weights, "cpu")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_folder_has_every_file_and_a_changed_configuration(tmp_path):
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "a.bin").write_bytes(b"weights")
    (tmp_path / "got" / "config.json").write_text('{"tower": "hub/name", "d": 3}')
    files = {"sub/a.bin": tmp_path / "got" / "a.bin", "config.json": tmp_path / "got" / "config.json"}
    folder = tmp_path / "room"
    checkout(request(**files), folder, {"config.json": lambda c: c | {"tower": "here"}})
    assert (folder / "sub" / "a.bin").read_bytes() == b"weights"
    assert json.loads((folder / "config.json").read_text()) == {"tower": "here", "d": 3}
    assert "hub/name" in files["config.json"].read_text()  # the fetched file stays as it is


@pytest.mark.parametrize("content", [None, "{"])
def test_a_repository_without_its_configuration_is_named(tmp_path, content):
    files = {}
    if content is not None:
        files["config.json"] = tmp_path / "config.json"
        files["config.json"].write_text(content)
    with pytest.raises(DiscernError, match=r"m@official.*config\.json is missing or unreadable"):
        checkout(request(**files), tmp_path / "room", {"config.json": dict})


def as_transformers(file):
    """Old releases load anything, and tell of another failure than the one that they met."""
    try:
        torch.load(file, weights_only=False)
    except Exception as error:
        raise OSError("Unable to load weights from pytorch checkpoint file") from error


@pytest.mark.parametrize("kind", ["zip", "legacy", "tar"])
def test_a_payload_is_neither_run_nor_passed_over(tmp_path, kind):
    file, harm = tmp_path / "w.bin", tmp_path / "harm"
    torch.save({"x": Payload(harm)}, file, _use_new_zipfile_serialization=kind == "zip")
    if kind == "tar":
        inner = file.rename(tmp_path / "pickle")
        with tarfile.open(file, "w") as archive:
            archive.add(inner, "pickle")
    original = torch.load
    with pytest.raises(DiscernError, match=r"w\.bin: holds more than tensors"), tensors_only(request()):
        as_transformers(file)
    assert not harm.exists()
    assert torch.load is original


def test_tensors_pass_and_other_failures_name_the_model(tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "w.bin")
    with tensors_only(request()):
        assert torch.load(tmp_path / "w.bin")["x"].sum() == 2
        with open(tmp_path / "w.bin", "rb") as opened:
            assert torch.load(opened)["x"].sum() == 2
    named = pytest.raises(DiscernError, match=r"m@official.*authors' loader failed \(KeyError: 'mm'\)")
    with named, tensors_only(request()):
        raise KeyError("mm")


@pytest.fixture
def published(tmp_path):
    """A layer, and a file with its tensors under a prefix beside others."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    state = {f"model.proj.{k}": v.half() for k, v in layer.state_dict().items()} | {"lm.x": torch.ones(1)}
    return layer, state, tmp_path / "model.safetensors"


def check(layer, file, dtype=torch.float16):
    verify(layer, {file.name: file}, "model.proj.", "model 'm'", dtype)


def test_what_was_loaded_equals_the_file(published):
    layer, state, file = published
    save_file(state, file)
    with pytest.raises(DiscernError, match="weight"):  # the layer still has more digits than float16
        check(layer, file)
    layer.half().float()
    check(layer, file)


def test_a_tensor_that_the_loader_left_random_is_named(published):
    layer, state, file = published
    layer.half().float()
    save_file({k: v for k, v in state.items() if not k.endswith("bias")}, file)
    with pytest.raises(DiscernError, match=r"did not take from the files: model\.proj\.bias$|proj\.bias\n"):
        check(layer, file)


@pytest.mark.parametrize(
    ("capability", "kinds", "runs"),
    [
        ((8, 0), ["sm_37", "sm_80", "sm_86"], True),
        ((8, 9), ["sm_80", "sm_86"], True),
        ((9, 0), ["sm_37", "sm_80", "sm_86"], False),  # PyTorch 2.0.1 with CUDA 11.7 on an H100
        ((9, 0), ["sm_80", "sm_90a", "sm_100"], True),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 4), ["gfx90a", "gfx942"], True),
    ],
)
def test_a_gpu_is_used_if_the_build_has_code_for_it(capability, kinds, runs):
    assert built_for(capability, kinds) is runs
