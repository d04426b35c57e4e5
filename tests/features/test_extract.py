"""Extraction: order, integrity, memory and what is written beside the numbers."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.contracts import FEATURES, MANIFEST, feature_matrix, read_table, write_table
from discern.data.pictures.images import Pictures
from discern.encoders.record import write_record
from discern.errors import DiscernError
from discern.features import extract
from discern.features.extract import Batches, extract_features

ROOT = Path(__file__).resolve().parents[2]
N, SIZE = 23, 8
PIXELS = {
    "name": "thumbnail",
    "loader": {"route": "pixels"},
    "preprocess": {"resize": "squash", "size": SIZE, "channels": "grey", "interpolation": "box"},
    "feature": {"name": "pixels", "d": SIZE * SIZE},
}


@pytest.fixture
def project(tmp_path):
    """N pictures, the i-th of grey level 10 i, listed in an order that is not the folder's."""
    order = np.random.default_rng(0).permutation(N).tolist()
    columns = {name: [None] * N for name in MANIFEST.columns}
    for place, i in enumerate(order):
        path = tmp_path / f"{i:02d}.png"
        Image.new("RGB", (20, 10), (10 * i,) * 3).save(path)
        row = {
            "image_id": f"image_{i:02d}",
            "path": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "label": 0,
            "label_name": "a",
            "width": 20,
            "height": 10,
            "mode": "RGB",
        }
        for name, value in row.items():
            columns[name][place] = value
    about = {"dataset": "planted", "root": str(tmp_path), "made": "", "decoding": {}}
    write_table(MANIFEST, tmp_path / "manifest.parquet", columns, about)
    write_record("thumbnail", [], tmp_path / "fetched.json")
    return tmp_path


def run(project, batch_size=4, spec=PIXELS, **options):
    out = project / f"features_{batch_size}.parquet"
    extract_features(spec, project / "manifest.parquet", project / "fetched.json", out, batch_size, **options)
    table, about = read_table(FEATURES, out)
    return table["image_id"].to_pylist(), feature_matrix(table), about


@pytest.mark.parametrize("batch_size", [1, 4, 23, 64])
def test_rows_follow_the_manifest_whatever_the_batch(project, batch_size):
    ids, features, _ = run(project, batch_size)
    manifest, _ = read_table(MANIFEST, project / "manifest.parquet")
    assert ids == manifest["image_id"].to_pylist()
    assert ids != sorted(ids)
    levels = [10 * int(i[-2:]) / 255 for i in ids]
    assert np.allclose(features, np.array(levels)[:, None], atol=1e-6)


def test_metadata_says_how(project):
    about = run(project, fingerprint="abc")[2]
    assert about["model"] == "thumbnail"
    assert about["dataset"] == "planted"
    assert about["d"] == SIZE * SIZE
    assert about["feature"] == "pixels"
    assert about["dtype"] == "float32"
    assert about["device"] == "cpu"
    assert about["fingerprint"] == "abc"
    assert about["images_per_second"] > 0
    assert about["preprocess"] == "8-bit RGB; to 8 x 8 px, aspect ratio ignored (box); grey; divided by 255"
    assert {"python", "numpy", "pillow"} <= about["versions"].keys()
    assert about["weights_digest"] == json.loads((project / "fetched.json").read_text())["digest"]


def test_batches_do_not_change_a_network_s_features(project):
    spec = {
        "name": "random",
        "loader": {"route": "timm", "arch": "resnet10t", "keys": "random", "seed": 0},
        "preprocess": {"resize": "squash", "size": 32},
        "feature": {"name": "pooled", "d": 512},
    }
    one, five = run(project, 1, spec, device="cpu")[1], run(project, 5, spec, device="cpu")[1]
    assert np.allclose(one, five, atol=1e-5 * np.abs(one).max())
    assert np.abs(np.diff(one, axis=0)).max() > 0


def test_an_image_changed_since_the_manifest_is_named(project):
    Image.new("RGB", (20, 10), (1, 2, 3)).save(project / "07.png")
    with pytest.raises(DiscernError, match=r"07\.png: image 'image_07' has changed"):
        run(project)
    assert not list(project.glob("features*"))


def test_a_feature_that_is_not_finite_names_its_image(project):
    # A standard deviation of 0 makes 0 / 0 of black and infinity of all other grey levels.
    spec = PIXELS | {"preprocess": PIXELS["preprocess"] | {"std": [0.0]}}
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(DiscernError, match=r"feature of image 'image_.*not finite"),
    ):
        run(project, spec=spec)


class Small:
    """An encoder whose memory holds ``room`` pictures; its feature is the pictures' mean."""

    d, input_size, device = 1, (2, 2), "a small device"

    def __init__(self, room, error):
        self.room, self.error, self.sizes = room, error, []

    def encode(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise self.error
        return batch.mean(axis=(1, 2, 3))[:, None]


PICTURES = np.random.default_rng(0).random((10, 3, 2, 2), np.float32)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 3.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate 9 bytes"),
    ],
)
def test_out_of_memory_halves_the_batch_and_goes_on(error, caplog):
    encoder = Small(3, error)
    batches = Batches(encoder, 10)
    assert np.allclose(batches.encode(PICTURES)[:, 0], PICTURES.mean(axis=(1, 2, 3)))
    assert encoder.sizes == [10, 5, 2, 2, 2, 2, 2]
    assert "out of memory with 10 pictures" in caplog.text
    assert "going on with 2" in caplog.text
    encoder.sizes.clear()
    batches.encode(PICTURES)
    assert encoder.sizes == [2] * 5


def test_one_picture_that_does_not_fit_is_an_error_with_the_figure():
    error = RuntimeError("CUDA out of memory. Tried to allocate 3.00 GiB")
    with pytest.raises(DiscernError, match=r"not even one picture of 2 x 2 px.*3\.00 GiB"):
        Batches(Small(0, error), 4).encode(PICTURES)


@pytest.mark.parametrize("text", ["mat1 and mat2 shapes", "CUDA error: an illegal memory access"])
def test_other_errors_pass_through(text):
    encoder = Small(0, RuntimeError(text))
    with pytest.raises(RuntimeError, match=text):
        Batches(encoder, 4).encode(PICTURES)
    assert encoder.sizes == [4]


def test_look_ahead_is_bounded(project):
    decoded, ahead = [], []
    table, about = read_table(MANIFEST, project / "manifest.parquet")
    p = extract.Preprocess.model_validate(PIXELS["preprocess"])
    rows, seen = table.to_pylist(), 0
    store = Pictures.of(about)

    def counting(path):
        decoded.append(path)
        return store.open(path)

    for batch in extract._pictures(rows, store, lambda image: extract.apply(image, p), 2, counting):
        seen += len(batch)
        ahead.append(len(decoded) - seen)
    assert seen == N
    assert max(ahead) <= 2 * (extract.LOOK_AHEAD + 1)


def test_script_from_a_shell(project):
    out = project / "shell.parquet"
    arguments = {
        "--spec": json.dumps(PIXELS),
        "--manifest": project / "manifest.parquet",
        "--weights": project / "fetched.json",
        "--out": out,
        "--batch-size": 4,
        "--device": "cpu",
        "--fingerprint": "f",
        "--threads": 2,
    }
    script = ROOT / "workflow" / "scripts" / "extract_features.py"
    command = [sys.executable, script, *[str(x) for pair in arguments.items() for x in pair]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(feature_matrix(read_table(FEATURES, out)[0]), run(project)[1])
    (project / "03.png").unlink()
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert f"error: {project / '03.png'}: no such file" in failed.stderr
