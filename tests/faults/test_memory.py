"""Memory that really runs out: the scripts of the workflow under limits of the operating system."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from discern.contracts import FEATURES, feature_matrix, read_table
from tests.survived import survived

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
for folder in ("features", "analysis"):
    sys.path.append(str(ROOT / "tests" / folder))
from planted_cells import planted as planted_features  # noqa: E402
from planted_cells import write_cell  # noqa: E402
from planted_pictures import planted as planted_pictures  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")

#: A network that takes 48 MiB for each picture, and a machine that leaves room for a number of them.
GREEDY = """
import os, resource
import torch
from discern.free_memory import PROC, field

class Greedy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 64, 3, padding=1)
        self.limited = False

    def forward(self, pictures):
        room = int(os.environ["ROOM"])
        if room and not self.limited:
            self.limited = True
            limit = field(PROC / "self/status", "VmData") + room * 2**20
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        wide = torch.nn.functional.interpolate(pictures, size=(256, 256))
        return self.layer(wide).relu().mean(dim=(2, 3))

def build():
    return Greedy()
"""
SPEC = {
    "name": "greedy",
    "loader": {"route": "python", "arch": "greedy:build", "keys": "random", "seed": 0},
    "preprocess": {"resize": "squash", "size": 32, "mean": [0.5] * 3, "std": [0.2] * 3},
    "feature": {"name": "pooled", "d": 64},
}


def extract(folder, room, threads=1):
    """The real script in a process of its own: its exit status, log and features."""
    out = folder / f"features_{room}_{threads}.parquet"
    done = subprocess.run(
        [
            sys.executable, SCRIPTS / "extract_features.py", "--threads", str(threads),
            "--spec", json.dumps(SPEC), "--manifest", "manifest.parquet", "--weights", "fetched.json",
            "--batch-size", "8", "--device", "cpu", "--out", out,
        ],
        cwd=folder, env=os.environ | {"ROOM": str(room)}, text=True, capture_output=True,
    )  # fmt: skip
    return (
        done.returncode,
        done.stderr,
        feature_matrix(read_table(FEATURES, out)[0]) if out.exists() else None,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = planted_pictures(tmp_path_factory.mktemp("pictures"))
    (folder / "greedy.py").write_text(GREEDY)
    return folder


def test_extraction_halves_its_batch_and_goes_on(pictures):
    status, _, whole = extract(pictures, 0)
    assert status == 0
    status, log, halved = extract(pictures, 128)
    assert status == 0, log
    words = r"out of memory with (\d+).*going on with (\d+)"
    tried = [(int(before), int(after)) for before, after in re.findall(words, log)]
    assert tried, log
    assert tried[0][0] in (7, 8)  # of 23 pictures one batch holds 7
    assert all(later == earlier // 2 for earlier, later in tried)
    assert halved.shape == whole.shape
    assert np.abs(halved - whole).max() <= 1e-6 * np.abs(whole).max()
    lost = len(whole) - len(halved)
    survived("memory that runs out in extraction (RLIMIT_DATA)", "23 pictures", 1, losses=lost)


def test_extraction_without_room_for_one_picture_says_so(pictures):
    status, log, features = extract(pictures, 8)
    assert status == 1
    assert features is None
    assert "not even one picture of 32 x 32 px fits into memory" in log
    assert "repair:" in log.splitlines()[-1]
    assert "Traceback" not in log


N, D, CLASSES = 2500, 2048, tuple("abc")


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cell")
    features, labels = planted_features(N, D, len(CLASSES), distance=3.0)
    return folder, write_cell(folder, features, labels, CLASSES)


def limited(script, room, folder, *arguments):
    command = [sys.executable, ROOT / "tests/faults/limited.py", str(room), SCRIPTS / script, *arguments]
    done = subprocess.run([*map(str, command)], cwd=folder, text=True, capture_output=True)
    return done.returncode, done.stderr


def fit(cell, room, threads=3):
    folder, files = cell
    out = folder / f"svm_{room}"
    status, log = limited(
        "fit_svm.py", room, folder, "--threads", threads, "--features", files.features,
        "--manifest", files.manifest, "--splits", files.splits, "--settings", '{"t": [1, 10]}',
        "--protocol", "image", "--scores", out / "scores.parquet",
        "--predictions", out / "predictions.parquet", "--classifier", out / "classifier.safetensors",
    )  # fmt: skip
    return status, log, out


FIGURES = r"not enough memory for .*: at least [\d.]+ GiB needed, [\d.]+ GiB free"


@pytest.mark.faults
def test_svms_under_any_limit_are_whole_or_say_what_they_need(cell):
    """Folds go one after the other where memory is short, with the same results; else nothing is written."""
    status, log, together = fit(cell, 0)
    assert status == 0, log
    assert "folds at a time" not in log
    short = refused = lost = 0
    for room in (350, 520, 600):
        status, log, out = fit(cell, room)
        if status == 0:
            short += bool(re.search(r"memory for [12] instead of 3 folds at a time", log))
            for name in ("predictions.parquet", "classifier.safetensors"):
                lost += (out / name).read_bytes() != (together / name).read_bytes()
        else:
            refused += 1
            assert re.search(FIGURES, log), log
            assert "repair: give the job more memory" in log.splitlines()[-1]
            assert "Traceback" not in log
            lost += len(list(out.glob("*")))
    assert refused
    assert short
    assert not lost
    survived("memory that runs out in fits of SVMs (RLIMIT_DATA)", "2,500 x 2,048", 3, losses=lost)


def embed(cell, room, threads=2):
    folder, files = cell
    out = folder / f"umap_{room}"
    out.mkdir(exist_ok=True)
    settings = {"n_neighbors": [15], "min_dist": [0.1]}
    status, log = limited(
        "embed_umap.py", room, folder, "--threads", threads, "--features", files.features,
        "--manifest", files.manifest, "--settings", json.dumps(settings), "--out", out / "umap.parquet",
        "--figure", out / "one.png", "--grid", out / "grid.png",
    )  # fmt: skip
    return status, log, out


@pytest.mark.faults
def test_maps_without_room_give_the_figure(cell):
    status, log, out = embed(cell, 250)
    assert status == 1, log
    assert re.search(FIGURES, log), log
    assert not list(out.glob("*.parquet"))
    survived(
        "memory that runs out in maps (RLIMIT_DATA)", "2,500 x 2,048", 1, losses=len(list(out.glob("*")))
    )


@pytest.mark.faults
def test_a_file_that_memory_does_not_hold_is_not_only_called_damaged(cell):
    status, log, _ = fit(cell, 20)
    assert status == 1
    assert "memory" in log
    assert "repair: give the job more memory" in log.splitlines()[-1]
    assert pq.read_table(cell[1].features).num_rows == N


def test_fewer_threads_map_the_same(cell, monkeypatch, caplog):
    from discern.analysis.umap import needs
    from discern.config import UmapSettings

    settings = UmapSettings()
    one = needs.of_cell(N, D, settings) + needs.of_map(N, settings)
    monkeypatch.setattr("discern.free_memory.available", lambda: one + 1)
    assert needs.workers("m on d", N, D, settings, 4) == 1
    assert "memory for 1 instead of 4 threads" in caplog.text
