"""The opt-in conversion takes the tensors out of a pickle and runs nothing that is pickled in it."""

import argparse
import hashlib
import re
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from discern import cli
from discern.encoders import convert as conversion
from discern.encoders import pickled
from discern.encoders.base import Request
from discern.encoders.convert import convert, pickled_files
from discern.encoders.record import read_weights, weights_digest, write_record
from discern.encoders.state import read_state, restore
from discern.errors import DiscernError
from discern.model_card import ModelCard, Preprocess


class Payload:
    """Runs when unpickled; where depends on the format, both are looked at."""

    def __reduce__(self):
        return (Path.touch, (OWNED,))


OWNED = Path("/nonexistent")


class Trainer(dict):
    """What training scripts leave in a checkpoint: an object with state and items of its own."""


def card(**loader):
    return ModelCard.model_validate(
        {
            "name": "planted",
            "weights": {"kind": "manual", "place": "model.tar"},
            "loader": {"route": "timm", "arch": "resnet10t", **loader},
            "preprocess": {"resize": "squash", "size": 32},
            "features": [{"name": "pooled", "d": 3}],
        }
    )


def registered(model):
    """The card in a registry folder of its own, as options of the command line."""
    folder = Path("registry") / "models"
    folder.mkdir(parents=True)
    (folder / "planted.yaml").write_text(model.model_dump_json(exclude_unset=True))
    return ["--registry", "registry"]


def network():
    torch.manual_seed(4)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5))
    return module


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A fetched checkpoint as trainers write it: tensors among objects of every sort, and a payload."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(globals(), "OWNED", tmp_path / "owned")
    folder = tmp_path / "resources" / "weights" / "planted"
    folder.mkdir(parents=True)

    def write(modern=True):
        trainer = Trainer(lr=1e-4)
        trainer.history = [np.float64(0.3), np.arange(3)]
        content = {
            "model": OrderedDict({f"module.image.{k}": v for k, v in network().state_dict().items()}),
            "config": argparse.Namespace(model="r50", nested={"a": {1, 2}}),
            "trainer": trainer,
            "path": Path("a/b"),
            "payload": Payload(),
            "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
        }
        content["model"]["module.text.weight"] = torch.ones(2, dtype=torch.bfloat16)
        content["model"]["module.image.parameter"] = torch.nn.Parameter(torch.ones(2).half())
        torch.save(content, folder / "model.tar", _use_new_zipfile_serialization=modern)
        write_record("planted", [folder / "model.tar"], folder / "fetched.json")
        return hashlib.sha256((folder / "model.tar").read_bytes()).hexdigest()

    return folder, write


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
def test_the_wanted_tensors_come_out_and_nothing_runs(project, modern):
    folder, write = project
    write(modern)
    pickled.save(pickled.load_restricted(folder / "model.tar", ("image.",)), folder / "out.safetensors", {})
    found = read_state([folder / "out.safetensors"], [""])
    truth = {f"image.{k}": v for k, v in network().state_dict().items()}
    truth["image.parameter"] = torch.ones(2).half()
    assert found.keys() == truth.keys()
    assert all(torch.equal(v, found[k]) and v.dtype == found[k].dtype for k, v in truth.items())
    assert not OWNED.exists()
    torch.load(folder / "model.tar", weights_only=False)  # the payload is real
    assert OWNED.exists()


def test_the_encoder_reads_the_converted_file_after_the_command(project, capsys):
    folder, write = project
    model = card(prefix="image.", drop=["parameter$"])
    sha256 = write()
    record = folder / "fetched.json"

    def load():
        module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5))
        weights = read_weights(record)
        request = Request("planted", model.loader, Preprocess(resize="none", size=4), "", 5, weights, "cpu")
        restore(request, module)
        return module.state_dict()

    with pytest.raises(DiscernError, match=f"discern convert planted --trust {sha256}"):
        load()
    before = weights_digest(record)
    options = registered(model)
    assert cli.main(["convert", "planted", "--trust", sha256, "--python", sys.executable, *options]) == 0
    assert "written: resources/weights/planted/model.tar.converted.safetensors" in capsys.readouterr().out
    assert not OWNED.exists()
    assert weights_digest(record) != before
    assert all(torch.equal(v, load()[k]) for k, v in network().state_dict().items())
    assert cli.main(["convert", "planted", *options]) == 0
    assert "model.tar (converted)" in capsys.readouterr().out
    # A record written anew keeps the converted file, but not that of another pickle.
    write_record("planted", [folder / "model.tar"], record)
    assert len(read_weights(record)) == 2
    torch.save({"a": torch.ones(1)}, folder / "model.tar")
    write_record("planted", [folder / "model.tar", *folder.glob("*.converted.safetensors")], record)
    assert list(read_weights(record)) == ["model.tar"]


def test_only_the_digest_of_a_fetched_file_is_trusted(project):
    _, write = project
    sha256 = write()
    with pytest.raises(DiscernError, match=rf"no fetched file has sha256 0000.*\n.*{sha256} \(model.tar\)"):
        convert(card(), "0000", sys.executable)


def test_what_a_pickle_names_is_told_without_loading_it(project):
    folder, write = project
    write()
    [file] = pickled_files(card())
    assert {"argparse", "pathlib", __name__} <= set(file.foreign)
    assert not file.converted
    assert not (folder.parents[2] / "owned").exists()


def test_the_worker_gets_nothing_of_this_process(project, monkeypatch):
    folder, write = project
    spy = folder / "spy.py"
    code = (
        "import os, sys; seen = open(sys.argv[1] + '.seen', 'w'); "
        "seen.write(f'{dict(os.environ)} {sys.flags.isolated}'); 1 / 0"
    )
    spy.write_text(code)
    monkeypatch.setattr(conversion, "WORKER", spy)
    monkeypatch.setenv("SECRET", "token")
    with pytest.raises(DiscernError, match=r"could not be converted \(ZeroDivisionError"):
        convert(card(), write(), sys.executable)
    seen = (folder / "model.tar.seen").read_text()
    assert "'HOME': '" in seen
    assert f"'HOME': '{Path.home()}'" not in seen
    assert "SECRET" not in seen
    assert seen.endswith("} 1")


@pytest.mark.parametrize("content", [{"weights": Path}, Path, {"other.a": torch.ones(2)}])
def test_a_pickle_without_wanted_tensors_is_an_error(tmp_path, monkeypatch, capsys, content):
    torch.save(content, tmp_path / "model.tar")
    task = '{"wanted": ["image."], "metadata": {}}'
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "model.tar"), str(tmp_path / "out"), task])
    assert pickled.main() == 1
    assert re.search("not a mapping|no tensor's name begins with image.", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_torchscript_program_is_not_run(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(TypeError, match="TorchScript"):
        pickled.load_restricted(tmp_path / "program.pt", ("",))


def test_the_command_names_digest_and_next_step(project, capsys):
    folder, write = project
    sha256 = write()
    options = ["convert", "planted", *registered(card())]
    assert cli.main(options) == 0
    assert f"python -m discern convert planted --trust {sha256}" in capsys.readouterr().out
    (folder / "fetched.json").unlink()
    assert cli.main(options) == 2
    assert "fetch the weights first" in capsys.readouterr().err
