"""Features in shards: the same file as at once, and clear words where shards do not fit together."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from planted_pictures import NETWORK, PIXELS, N, planted, textured

from discern.config import ExtractSettings
from discern.contracts import (
    FEATURES,
    MANIFEST,
    METADATA_KEY,
    ContractError,
    feature_matrix,
    feature_table,
    read_rows,
    read_table,
    write_table,
)
from discern.errors import DiscernError
from discern.features import merging, reading
from discern.features.extract import extract_features
from discern.features.merging import bounds, merge_features
from discern.features.shards import extract_shard

ROOT = Path(__file__).resolve().parents[2]
EIGHT = ["0-8", "8-16", "16-end"]
TIMED = {"images_per_second"}


@pytest.fixture
def project(tmp_path):
    return textured(planted(tmp_path)) or tmp_path


def names(*starts):
    return [f"{a}-{b}" for a, b in itertools.pairwise([*starts, "end"])]


def whole(project, spec=PIXELS, **options):
    out = project / "whole.parquet"
    extract_features(
        spec, project / "manifest.parquet", project / "fetched.json", out, 4, "cpu", "f", **options
    )
    return out


def shard(project, rows, spec=PIXELS, fingerprint="f", **options):
    extract_shard(
        rows, spec, project / "manifest.parquet", project / "fetched.json",
        project / "shards" / f"{rows}.parquet", 4, "cpu", fingerprint, **options,
    )  # fmt: skip


def merged(project, rows):
    out = project / "merged.parquet"
    merge_features(project / "shards", rows, project / "manifest.parquet", out)
    return out


def same(a, b):
    (one, first), (two, second) = read_table(FEATURES, a), read_table(FEATURES, b)
    assert one["image_id"].equals(two["image_id"])
    assert feature_matrix(one).tobytes() == feature_matrix(two).tobytes()
    assert one.schema.equals(two.schema)
    assert {k: v for k, v in first.items() if k not in TIMED} == {
        k: v for k, v in second.items() if k not in TIMED
    }
    return second


@pytest.mark.parametrize("spec", [NETWORK, PIXELS], ids=["network", "pixels"])
@pytest.mark.parametrize("starts", [(0,), (0, 4), (0, 8, 16), (0, 20)], ids=str)
def test_merged_shards_are_the_whole_to_the_last_bit(project, spec, starts):
    rows = names(*starts)
    for part in rows:
        shard(project, part, spec)
    about = same(whole(project, spec), merged(project, rows))
    assert about["dataset"] == "planted"
    assert about["images_per_second"] > 0
    assert not list(project.glob("shards/*manifest*"))


def test_half_precision_is_judged_on_the_same_pictures(project):
    spec = NETWORK | {"precision": "bfloat16"}
    for part in names(0, 16):
        shard(project, part, spec)
    about = read_table(FEATURES, merged(project, names(0, 16)))[1]
    assert about["deviation"]["images"] == 16
    assert about["deviation"]["max_relative"] > 0


@pytest.mark.parametrize("starts", [(0, 8, 24), (0, 8, 24, 32), (0, 40)], ids=str)
def test_a_manifest_shorter_than_its_card_leaves_shards_empty(project, starts):
    rows = names(*starts)
    for part in rows:
        shard(project, part)
    same(whole(project), merged(project, rows))


def test_memory_holds_a_part_of_a_shard(project, monkeypatch):
    for part in EIGHT:
        shard(project, part)
    monkeypatch.setattr(merging, "GROUP", 3 * 4 * PIXELS["feature"]["d"])
    out = merged(project, EIGHT)
    stored = pq.ParquetFile(out).metadata
    sizes = [stored.row_group(i).num_rows for i in range(stored.num_row_groups)]
    assert sizes == [3, 3, 2, 3, 3, 2, 3, 3, 1]
    same(whole(project), out)


def test_resized_pictures_of_a_shard_are_found_by_the_next_model(project, monkeypatch):
    options = {"settings": ExtractSettings(picture_cache_gib=0.01), "shared": project / "resized"}
    for part in EIGHT:
        shard(project, part, NETWORK, **options)
    files = []

    def counting(path, *rest):
        files.append(path)
        return original(path, *rest)

    original = reading.decode
    monkeypatch.setattr(reading, "decode", counting)
    for part in EIGHT:
        shard(project, part, NETWORK | {"name": "other"}, **options)
    assert files == []
    same(whole(project, NETWORK | {"name": "other"}), merged(project, EIGHT))


def test_rows_of_a_table_of_several_row_groups(project):
    table, about = read_table(MANIFEST, project / "manifest.parquet")
    kept = table.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()})
    pq.write_table(kept, project / "groups.parquet", row_group_size=5)
    for first, last in [
        (0, 5),
        (0, 23),
        (3, 12),
        (5, 6),
        (9, 10),
        (20, None),
        (22, 99),
        (23, None),
        (40, 50),
    ]:
        assert read_rows(MANIFEST, project / "groups.parquet", first, last).equals(table[first:last])


@pytest.mark.parametrize("text", ["", "8", "8-", "-8", "a-b", "8-16-24", "end-8"])
def test_rows_that_are_none(text):
    with pytest.raises(DiscernError, match=r"rows: found '.*'\n  allowed: first-last"):
        bounds(text)


def rewritten(project, rows, table=None, **changes):
    file = project / "shards" / f"{rows}.parquet"
    old, about = read_table(FEATURES, file)
    write_table(FEATURES, file, table(old) if table else old, about | changes)


def fewer(table):
    return table[:-1]


def renamed(table):
    ids = table["image_id"].to_pylist()
    return feature_table(["another", *ids[1:]], feature_matrix(table))


def narrower(table):
    return feature_table(table["image_id"].to_pylist(), feature_matrix(table)[:, :5])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"table": fewer}, "has 7 rows, the manifest 8 between 8-16"),
        ({"table": renamed}, "has image 'another' where the manifest has 'image_"),
        ({"table": lambda t: t[::-1]}, "has image 'image_.*' where the manifest has 'image_"),
        ({"table": narrower}, "has columns"),
        ({"fingerprint": "g"}, "fingerprint is 'g', in .*0-8.parquet it is 'f'"),
        ({"weights_digest": "g"}, "weights_digest is 'g'"),
        ({"d": 5}, "d is 5, in .* it is 64"),
        ({"versions": {}}, "versions is {}"),
        ({"dataset": "planted.0-8"}, "is of data set 'planted.0-8', not 'planted.8-16'"),
    ],
)
def test_a_shard_that_does_not_fit_is_named_with_the_repair(project, change, words):
    for part in EIGHT:
        shard(project, part)
    rewritten(project, "8-16", **change)
    file = project / "shards" / "8-16.parquet"
    with pytest.raises(DiscernError, match=rf"{file}: {words}(.|\n)*repair: delete it .*: rm {file}"):
        merged(project, EIGHT)
    assert not (project / "merged.parquet").exists()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["0-8", "16-end"], "shard 16-end does not begin where the one before it ends: 8"),
        (["8-16", "16-end"], "shard 8-16 does not begin"),
        (["0-8", "8-16"], "the last shard ends at 16"),
        (["0-8", "8-16", "8-16", "16-end"], "shard 8-16 does not begin where the one before it ends: 16"),
    ],
    ids=str,
)
def test_no_gap_and_nothing_twice(project, rows, words):
    for part in EIGHT:
        shard(project, part)
    with pytest.raises(DiscernError, match=words):
        merged(project, rows)


@pytest.mark.parametrize("at", [0, 4, 60, 0.5, -1])
def test_a_damaged_shard_is_named(project, at):
    for part in EIGHT:
        shard(project, part)
    file = project / "shards" / "8-16.parquet"
    data = file.read_bytes()
    file.write_bytes(data[: int(at * len(data)) if isinstance(at, float) else at])
    with pytest.raises(ContractError, match=rf"{file}: damaged or truncated features file(.|\n)*rm {file}"):
        merged(project, EIGHT)
    file.unlink()
    with pytest.raises(ContractError, match=f"{file}: no such features file"):
        merged(project, EIGHT)


def test_a_failing_shard_names_its_image_and_leaves_nothing(project):
    path = read_table(MANIFEST, project / "manifest.parquet")[0]["path"][9].as_py()
    (project / path).write_bytes(b"")
    shard(project, "0-8")
    with pytest.raises(DiscernError, match=f"{path}: image 'image_.*' has changed"):
        shard(project, "8-16")
    assert [f.name for f in (project / "shards").iterdir()] == ["0-8.parquet"]


def script(name, **options):
    words = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", *map(str, np.atleast_1d(v)))]
    command = [sys.executable, ROOT / "workflow" / "scripts" / f"{name}.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_scripts_from_a_shell(project):
    files = {"manifest": project / "manifest.parquet", "weights": project / "fetched.json"}
    for rows in names(0, 16):
        done = script(
            "extract_shard", rows=rows, spec=json.dumps(PIXELS), batch_size=4, device="cpu", fingerprint="f",
            out=project / "shards" / f"{rows}.parquet", **files,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    merge = {"shards": project / "shards", "manifest": files["manifest"], "out": project / "merged.parquet"}
    done = script("merge_features", rows=names(0, 16), **merge)
    assert done.returncode == 0, done.stderr
    assert f"{N} images of 2 shards" in done.stderr
    expected = feature_matrix(read_table(FEATURES, whole(project))[0])
    assert np.array_equal(feature_matrix(read_table(FEATURES, merge["out"])[0]), expected)
    failed = script("merge_features", rows=names(0, 8), **merge)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "error: " in failed.stderr
