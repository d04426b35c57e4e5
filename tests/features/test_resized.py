"""Pictures kept for other models: equal, checked, bounded, and never in the way."""

import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image
from planted_pictures import NETWORK, N, planted, textured

from discern.config import ExtractSettings
from discern.contracts import FEATURES, MANIFEST, feature_matrix, read_table
from discern.data.pictures.images import Pictures
from discern.errors import DiscernError
from discern.features import reading
from discern.features.extract import extract_features
from discern.features.resized import DIGEST, Resized, resized, rule_of
from discern.model_card import Preprocess

KEEP = ExtractSettings(picture_cache_gib=0.01)
SIZE = 32  # of NETWORK's pictures
RECORD = DIGEST + 3 * SIZE * SIZE


def run(folder, name="first", settings=KEEP, **preprocess):
    spec = NETWORK | {"name": name, "preprocess": NETWORK["preprocess"] | preprocess}
    extract_features(
        spec, folder / "manifest.parquet", folder / "fetched.json", folder / f"{name}.parquet", 4, "cpu",
        settings=settings, shared=folder / "shared",
    )  # fmt: skip
    return feature_matrix(read_table(FEATURES, folder / f"{name}.parquet")[0])


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded."""
    files = []

    def counting(path, *args):
        files.append(path.name)
        return original(path, *args)

    original = reading.decode
    monkeypatch.setattr(reading, "decode", counting)
    return files


@pytest.fixture
def project(tmp_path):
    return planted(tmp_path)


@pytest.fixture
def files(project):
    textured(project)
    return project


def test_the_second_model_decodes_nothing_and_sees_the_same(files, decoded):
    plain = run(files, settings=ExtractSettings())
    other = run(files, "other", ExtractSettings(), mean=[0.4] * 3, channels="bgr")
    assert not (files / "shared").exists()
    decoded.clear()
    assert np.array_equal(run(files), plain)
    assert len(set(decoded)) == N
    decoded.clear()
    # The arithmetic after the resize is each model's own.
    assert np.array_equal(run(files, "other", mean=[0.4] * 3, channels="bgr"), other)
    assert decoded == []
    run(files, "third", size=50)
    assert len(set(decoded)) == N


def test_a_changed_image_is_found_out_although_it_is_kept(files):
    run(files)
    name = read_table(MANIFEST, files / "manifest.parquet")[0]["path"].to_pylist()[3]
    Image.new("RGB", (90, 90)).save(files / name)
    with pytest.raises(DiscernError, match="has changed since the manifest"):
        run(files)


def test_small_pictures_are_not_kept(project, decoded):
    run(project)
    run(project)
    assert len(decoded) >= 2 * N  # 20 x 10 pixels each


@pytest.fixture
def kept(tmp_path):
    with Resized(tmp_path / "a.pictures", "rule", 5, (4, 6)) as found:
        yield found


PICTURE = np.random.default_rng(0).integers(0, 256, (3, 4, 6), dtype=np.uint8)


def test_a_record_is_of_one_file_one_rule_and_one_place(kept, tmp_path):
    kept.put(2, "aa", PICTURE)
    assert np.array_equal(kept.get(2, "aa"), PICTURE)
    assert kept.get(2, "ab") is None
    assert kept.get(1, "aa") is None
    assert kept.get(9, "aa") is None
    with Resized(tmp_path / "a.pictures", "another rule", 5, (4, 6)) as other:
        assert other.get(2, "aa") is None


@pytest.mark.parametrize("place", [0, DIGEST, DIGEST + 71])
def test_a_damaged_record_is_no_record(kept, tmp_path, place):
    kept.put(2, "aa", PICTURE)
    with open(tmp_path / "a.pictures", "r+b") as file:
        file.seek(2 * (DIGEST + PICTURE.size) + place)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    assert kept.get(2, "aa") is None
    kept.put(2, "aa", PICTURE)
    assert kept.get(2, "aa") is not None
    os.truncate(tmp_path / "a.pictures", 2 * (DIGEST + PICTURE.size) + 40)
    assert kept.get(2, "aa") is None


def fill(file, rounds):
    with Resized(file, "rule", 5, (4, 6)) as kept:
        for i in range(rounds):
            kept.put(i % 5, "aa", PICTURE)
            found = kept.get((i + 1) % 5, "aa")
            assert found is None or np.array_equal(found, PICTURE)


def test_processes_write_and_read_side_by_side(tmp_path):
    jobs = [
        multiprocessing.get_context("fork").Process(target=fill, args=(tmp_path / "a", 400)) for _ in "ab"
    ]
    [job.start() for job in jobs]
    [job.join() for job in jobs]
    assert [job.exitcode for job in jobs] == [0, 0]
    with Resized(tmp_path / "a", "rule", 5, (4, 6)) as kept:
        assert all(np.array_equal(kept.get(i, "aa"), PICTURE) for i in range(5))


P = Preprocess.model_validate(NETWORK["preprocess"])


def opened(folder, dataset, limit, count=10, p=P):
    with resized(folder, limit, dataset, count, p, Pictures(folder, folder)) as found:
        return found is not None


def names(folder):
    return sorted(f.name.split(".")[0] for f in folder.glob("*.pictures"))


def test_what_was_used_least_recently_makes_room(tmp_path):
    for moment, dataset in enumerate("abc"):
        assert opened(tmp_path, dataset, 35 * RECORD)
        [file] = tmp_path.glob(f"{dataset}.*.pictures")
        os.utime(file, (moment, moment))
    assert opened(tmp_path, "a", 35 * RECORD)  # used again
    assert opened(tmp_path, "d", 35 * RECORD)
    assert names(tmp_path) == ["a", "c", "d"]
    assert not opened(tmp_path, "e", 35 * RECORD, 36)  # would not fit even alone
    assert names(tmp_path) == ["a", "c", "d"]
    assert sum(f.stat().st_size for f in tmp_path.glob("*.pictures")) <= 35 * RECORD


def test_a_file_that_is_removed_serves_the_job_that_has_it_open(tmp_path, kept):
    (tmp_path / "a.pictures").unlink()
    kept.put(2, "aa", PICTURE)
    assert np.array_equal(kept.get(2, "aa"), PICTURE)


def test_nothing_is_kept_where_that_is_not_wanted_or_not_possible(tmp_path, caplog):
    assert not opened(tmp_path / "none", "a", 0)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    assert not opened(tmp_path / "file", "a", 10**9)
    assert "resized pictures are not kept" in caplog.text
    assert not opened(tmp_path, "a", 10**9, p=P.model_copy(update={"precision": "float32"}))


def test_the_rule_is_the_geometry_and_the_decoding(tmp_path):
    store = Pictures(tmp_path, tmp_path)

    def rule(**changes):
        return rule_of(P.model_copy(update=changes), store)

    same = [{"mean": [0.1] * 3}, {"std": [2.0] * 3}, {"scale": 1.0}, {"channels": "bgr"}, {"stretch": True}]
    assert {rule(**changes) for changes in same} == {rule()}
    other = [
        {"size": 41},
        {"crop": 30},
        {"resize": "squash"},
        {"interpolation": "bilinear"},
        {"resize": "pad"},
    ]
    assert len({rule(**changes) for changes in other} | {rule()}) == 6
    # The colour of the padding comes from the mean.
    assert rule(resize="pad") != rule(resize="pad", mean=[0.1] * 3)
    darker = Pictures(tmp_path, tmp_path, store.decoding.model_copy(update={"transparency": "white"}))
    assert rule_of(P, darker) != rule()
