"""Extraction: order, integrity, memory and what is written beside the numbers."""

import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted_pictures import NETWORK, PIXELS, SIZE, TRANSFORMER, planted, textured

from discern.config import ExtractSettings, read_study
from discern.contracts import FEATURES, MANIFEST, feature_matrix, read_table, write_table
from discern.data.pictures.images import Pictures
from discern.encoders.base import load_encoder
from discern.encoders.preprocess import apply
from discern.errors import DiscernError
from discern.features import extract
from discern.features.extract import extract_features
from discern.features.precision import deviation
from discern.features.reading import Reader
from discern.model_card import Preprocess
from discern.plan import Plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path):
    return planted(tmp_path)


def run(project, batch_size=4, spec=PIXELS, **options):
    out = project / f"features_{batch_size}.parquet"
    extract_features(spec, project / "manifest.parquet", project / "fetched.json", out, batch_size, **options)
    table, about = read_table(FEATURES, out)
    return table["image_id"].to_pylist(), feature_matrix(table), about


@pytest.mark.parametrize("batch_size", [1, 4, 8, 64])
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
    one, five = run(project, 1, NETWORK, device="cpu")[1], run(project, 5, NETWORK, device="cpu")[1]
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


def plain_loop(project, spec, batch_size):
    """What extraction is, without its machinery: one batch, and one picture, after the other."""
    table, about = read_table(MANIFEST, project / "manifest.parquet")
    store, p = Pictures.of(about), Preprocess.model_validate(spec["preprocess"])
    encoder = load_encoder(spec, {}, "cpu")
    paths = table["path"].to_pylist()
    blocks = []
    for start in range(0, len(paths), batch_size):
        pictures = [apply(store.open(path), p) for path in paths[start : start + batch_size]]
        blocks.append(encoder.encode(np.stack(pictures)))
    return np.concatenate(blocks)


@pytest.mark.parametrize("spec", [NETWORK, TRANSFORMER, PIXELS], ids=["network", "transformer", "pixels"])
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_the_plain_loop_to_the_last_bit(project, monkeypatch, spec, threads):
    textured(project)
    expected = plain_loop(project, spec, 4)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    settings = ExtractSettings(look_ahead_mib=1)
    assert np.array_equal(run(project, 4, spec, device="cpu", settings=settings)[1], expected)


def test_batches_with_huge_pictures_come_last(project, monkeypatch):
    textured(project)  # huge ones at 0 and 9, so in the first and third batch of four
    seen = []

    class Noting(Reader):
        def __call__(self, index, out=None):
            seen.append(index)
            return super().__call__(index, out)

    monkeypatch.setattr(extract, "Reader", Noting)
    assert np.array_equal(run(project, 4, device="cpu")[1], plain_loop(project, PIXELS, 4))
    batches = list(dict.fromkeys(index // 4 for index in seen[1:]))
    assert sorted(batches[-2:]) == [0, 2]


def test_a_damaged_image_is_named_and_ends_the_job(project):
    table, about = read_table(MANIFEST, project / "manifest.parquet")
    columns = table.to_pydict()
    broken = project / columns["path"][13]
    broken.write_bytes(broken.read_bytes()[:40])
    columns["sha256"][13] = hashlib.sha256(broken.read_bytes()).hexdigest()
    write_table(MANIFEST, project / "manifest.parquet", columns, about)
    with pytest.raises(DiscernError, match=broken.name):
        run(project)
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]
    assert not list(project.glob("features*"))


def test_half_precision_says_how_far_it_is_from_float32(project):
    textured(project)
    exact = run(project, 4, TRANSFORMER, device="cpu")
    assert exact[2]["precision"] == "float32"
    assert "deviation" not in exact[2]
    half = run(project, 4, TRANSFORMER | {"precision": "bfloat16"}, device="cpu")
    assert half[2]["precision"] == "bfloat16"
    assert half[2]["batch_size"] == 4
    assert half[2]["deviation"] == deviation(half[1], exact[1])
    assert half[2]["deviation"]["max_relative"] > 0


def test_speed_is_no_part_of_what_features_depend_on():
    study = read_study("config.yaml", "config/ci.yaml")
    plan = Plan(study)
    slow = ExtractSettings(look_ahead_mib=1, picture_cache_gib=9)
    other = Plan(study.model_copy(update={"extract": slow}))
    for model in study.models:
        assert plan.fingerprint(model) == other.fingerprint(model)
    # The workflow does not track params that take `input`; what it tracks has no word of these settings.
    text = (ROOT / "workflow" / "rules" / "common.smk").read_text()
    params = text.partition("def extraction(")[2].partition("\n\n\n")[0]
    assert '"settings": lambda wildcards, input: dump(STUDY.extract)' in params
    assert params.count("STUDY") == 1
    assert "STUDY" not in (ROOT / "workflow" / "rules" / "features.smk").read_text()


def test_half_precision_has_a_fingerprint_of_its_own(monkeypatch):
    study = read_study("config.yaml", "config/ci.yaml")
    card = Plan(study).model("mobilenetv2")

    def fingerprint(**wish):
        plan = Plan(study)
        monkeypatch.setattr(plan, "model", lambda _: card.model_copy(update=wish))
        return plan.fingerprint("mobilenetv2")

    wishes = [{}, {"precision": "bfloat16"}, {"precision": "float16"}, {"compile": True}]
    assert len({fingerprint(**wish) for wish in wishes}) == 4
    assert fingerprint(batch_size="auto") == fingerprint()


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
        "--settings": json.dumps({"look_ahead_mib": 1, "picture_cache_gib": 0.01}),
        "--resized": project / "resized",
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
