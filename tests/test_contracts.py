"""Tables keep their contract on both sides, and a failed writer leaves nothing behind."""

import numpy as np
import pyarrow as pa
import pytest

from discern.contracts import (
    FEATURES,
    MANIFEST,
    SPLITS,
    UMAP,
    ContractError,
    atomic,
    feature_matrix,
    feature_table,
    read_json,
    read_table,
    sha256_file,
    write_json,
    write_table,
)

GOOD = {"image_id": ["a", "b", "c"], "role": ["train", "train", "test"], "fold": [0, 1, None]}


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "deep" / "splits.parquet"
    write_table(SPLITS, file, GOOD, {"dataset": "dots"})
    return file


def test_a_table_comes_back_with_its_metadata(table):
    read, metadata = read_table(SPLITS, table)
    assert read.to_pydict() == GOOD
    assert metadata["dataset"] == "dots"
    assert metadata["contract"] == "splits"


def test_writing_leaves_only_the_file(table):
    assert [p.name for p in table.parent.iterdir()] == ["splits.parquet"]


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_truncated_file_is_named_with_its_repair(table, keep):
    table.write_bytes(table.read_bytes()[:keep])
    with pytest.raises(ContractError) as error:
        read_table(SPLITS, table)
    assert "damaged or truncated splits file" in str(error.value)
    assert f"rm {table}" in str(error.value)


def test_a_table_without_metadata_is_refused(tmp_path):
    file = tmp_path / "plain.parquet"
    pa.parquet.write_table(pa.table(GOOD, schema=SPLITS.schema()), file)
    with pytest.raises(ContractError, match="damaged"):
        read_table(SPLITS, file)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"none\.parquet: no such splits file"):
        read_table(SPLITS, tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        (pa.table({"image_id": ["a"], "role": ["test"]}), "column 'fold' is missing"),
        (pa.table({"image_id": ["a"], "role": ["test"], "fold": [0]}), "column 'fold' has type int64"),
        (GOOD | {"role": ["train", None, "test"]}, "column 'role' has 1 nulls"),
        (GOOD | {"image_id": ["a", "a", "c"]}, "image_id is not unique"),
    ],
    ids=["missing", "type", "null", "key"],
)
def test_a_wrong_table_is_not_written(tmp_path, columns, part):
    with pytest.raises(ContractError, match=part):
        write_table(SPLITS, tmp_path / "splits.parquet", columns, {})
    assert list(tmp_path.iterdir()) == []


def test_a_key_of_several_columns(tmp_path):
    rows = {"image_id": ["a", "a"], "n_neighbors": [5, 15], "min_dist": [0.1, 0.1]}
    maps = rows | {"x": [0.0, 1.0], "y": [0.0, 1.0]}
    write_table(UMAP, tmp_path / "u.parquet", maps, {})
    with pytest.raises(ContractError, match=r"image_id \+ n_neighbors \+ min_dist is not unique"):
        write_table(UMAP, tmp_path / "v.parquet", maps | {"n_neighbors": [5, 5]}, {})


def test_read_checks_against_the_contract_asked_for(table):
    with pytest.raises(ContractError, match="not a manifest table: column 'path' is missing"):
        read_table(MANIFEST, table)


def test_features_survive_bit_by_bit(tmp_path):
    features = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    write_table(FEATURES, tmp_path / "f.parquet", feature_table(list("abcde"), features), {})
    read, _ = read_table(FEATURES, tmp_path / "f.parquet")
    assert np.array_equal(feature_matrix(read), features)
    assert feature_matrix(read.slice(1, 2)).tolist() == features[1:3].tolist()


def test_atomic_leaves_nothing_on_failure(tmp_path):
    def half_written():
        with atomic(tmp_path / "out.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        half_written()
    assert list(tmp_path.iterdir()) == []


def test_atomic_keeps_the_old_file_on_failure(tmp_path):
    file = tmp_path / "out.json"
    write_json(file, {"b": 1, "a": [2]})
    with pytest.raises(TypeError):
        write_json(file, {"x": object()})
    assert read_json(file) == {"a": [2], "b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_broken_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ContractError, match=r"x\.json: cannot be read as JSON"):
        read_json(tmp_path / "x.json")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc").startswith("ba7816bf8f01cfea")
