"""Tables that somebody damaged, or that are of another kind: a clear error, never wrong numbers."""

import functools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.analysis.linear import Classifier, load_classifier, save_classifiers
from discern.contracts import (
    FEATURES,
    MANIFEST,
    METADATA_KEY,
    PREDICTIONS,
    SCORES,
    SPLITS,
    UMAP,
    ContractError,
    feature_matrix,
    feature_table,
    read_rows,
    read_table,
    write_table,
)
from tests.hostile.bounds import guarded, scratch, tried
from tests.hostile.values import damaged, values
from tests.survived import survived

N = 40
IDS = [f"i{i:02d}" for i in range(N)]
SOUND = {}
COUNT = {"tried": 0, "noticed": 0}


def columns(contract):
    """Plausible content of a contract's columns."""
    words = {"image_id": IDS, "path": IDS, "role": ["test"] * N}
    found = {}
    for name, kind in contract.columns.items():
        if name in words:
            found[name] = pa.array(words[name], pa.string())
        elif name == "fold" and contract is SCORES:
            found[name] = pa.array(range(N), kind)
        elif pa.types.is_list(kind) or pa.types.is_struct(kind):
            found[name] = pa.array([[] if pa.types.is_list(kind) else None] * N, kind)
        elif pa.types.is_string(kind):
            found[name] = pa.array(["x"] * N, kind)
        else:
            found[name] = pa.array(np.arange(N) % 2, pa.int64()).cast(kind)
    return found


def whole(contract):
    """The bytes of a sound table."""
    if contract.name not in SOUND:
        SOUND[contract.name] = written(contract)
    return SOUND[contract.name]


def written(contract):
    with scratch() as folder:
        if contract is FEATURES:
            table = feature_table(IDS, np.random.default_rng(0).normal(size=(N, 8)))
        else:
            table = columns(contract)
        write_table(contract, folder / "x.parquet", table, {"dataset": "x", "classes": ["a", "b"]})
        return (folder / "x.parquet").read_bytes()


CONTRACTS = [MANIFEST, SPLITS, FEATURES, SCORES, PREDICTIONS, UMAP]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
@settings(max_examples=tried(40))
@given(data=st.data())
def test_damaged_tables(contract, data):
    """Read as it was, or refused: a table that is read with other numbers would be a loss."""
    body = data.draw(damaged(whole(contract)))
    with scratch() as folder:
        file = folder / "x.parquet"
        file.write_bytes(whole(contract))
        original, _ = read_table(contract, file)
        file.write_bytes(body)
        COUNT["tried"] += 1
        seen = None
        with guarded():
            seen, metadata = read_table(contract, file)
            metadata["dataset"]
            if contract is FEATURES:
                feature_matrix(seen)
        COUNT["noticed"] += seen is None
        with guarded():
            read_rows(contract, file, 3, 30)
        if seen is not None and len(body) >= len(whole(contract)):
            assert seen.equals(original) or header_only(whole(contract), body)


def header_only(before, after):
    """Whether bytes differ in the footer alone, which Parquet gives no checksum."""
    length = int.from_bytes(before[-8:-4], "little")
    start = len(before) - 8 - length
    return before[:start] == after[:start] or len(before) != len(after)


def test_every_cut_is_noticed(tmp_path):
    body = whole(SPLITS)
    file = tmp_path / "x.parquet"
    for length in range(0, len(body), 7):
        file.write_bytes(body[:length])
        with pytest.raises(ContractError, match="damaged or truncated"):
            read_table(SPLITS, file)
    COUNT["tried"] += len(range(0, len(body), 7))


def test_a_flipped_bit_in_a_page_is_noticed(tmp_path):
    """zstd as Arrow writes it has no checksum: only the page's own shows a changed number."""
    body = whole(FEATURES)
    file = tmp_path / "x.parquet"
    file.write_bytes(body)
    chunk = pq.read_metadata(file).row_group(0).column(1)
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    original, _ = read_table(FEATURES, file)
    told = []
    for place in range(start + chunk.total_compressed_size // 2, start + chunk.total_compressed_size, 5):
        changed = bytearray(body)
        changed[place] ^= 4
        file.write_bytes(bytes(changed))
        try:
            seen, _ = read_table(FEATURES, file)
        except ContractError as error:
            told.append(str(error))
        else:  # the header of a page has no checksum, and figures in it that nobody reads
            assert seen.equals(original)
    assert len(told) > 20
    assert all("delete it and run again" in text for text in told)


@settings(max_examples=tried(60))
@given(data=st.data())
def test_tables_of_another_shape(data):
    """Columns missing, twice, of other types, with nulls; metadata absent, no JSON, of another kind."""
    contract = data.draw(st.sampled_from([SPLITS, MANIFEST, UMAP, FEATURES]))
    with scratch() as folder:
        file = folder / "x.parquet"
        file.write_bytes(whole(contract))
        table = pq.read_table(file)
        try:
            for _ in range(data.draw(st.integers(1, 3))):
                table = reshaped(data, table)
            pq.write_table(table, file)
        except (pa.ArrowException, KeyError, ValueError):  # no such table can be written
            return
        COUNT["tried"] += 1
        with guarded():
            seen, metadata = read_table(contract, file)
            metadata["dataset"], metadata["classes"]
            if contract is FEATURES:
                assert np.isfinite(feature_matrix(seen)).all()


def reshaped(data, table):
    how = data.draw(st.sampled_from(["drop", "twice", "type", "null", "nan", "metadata", "rows", "rename"]))
    names = table.column_names or ["x"]
    at = data.draw(st.integers(0, len(names) - 1))
    if not table.column_names:
        return table
    if how == "drop":
        return table.drop_columns([names[at]])
    if how == "twice":
        return table.append_column(names[at], table.column(at))
    if how == "rename":
        return table.rename_columns([*names[:at], data.draw(st.sampled_from(names)), *names[at + 1 :]])
    if how == "type":
        kind = data.draw(st.sampled_from([pa.string(), pa.float64(), pa.int8(), pa.binary(), pa.null()]))
        return table.set_column(at, names[at], pa.nulls(len(table), kind))
    if how == "null":
        return table.set_column(at, names[at], pa.nulls(len(table), table.schema.field(at).type))
    if how == "nan" and "feature" in names:
        flat = np.full(len(table) * 8, np.nan, dtype=np.float32)
        return table.set_column(
            names.index("feature"), "feature", pa.FixedSizeListArray.from_arrays(pa.array(flat), 8)
        )
    if how == "rows":
        return pa.concat_tables([table, table.slice(0, 3)])
    text = data.draw(st.binary(max_size=20) | values.map(lambda v: json.dumps(v, default=str).encode()))
    return table.replace_schema_metadata({METADATA_KEY: text} if data.draw(st.booleans()) else None)


def test_features_that_are_no_numbers_are_refused(tmp_path):
    for bad in (np.nan, np.inf, -np.inf):
        features = np.ones((N, 3), dtype=np.float32)
        features[7, 1] = bad
        write_table(FEATURES, tmp_path / "x.parquet", feature_table(IDS, features), {})
        with pytest.raises(ContractError, match="not finite"):
            feature_matrix(read_table(FEATURES, tmp_path / "x.parquet")[0])


@functools.cache
def classifier():
    with scratch() as folder:
        rng = np.random.default_rng(0)
        model = Classifier(
            rng.normal(size=4), np.ones(4), rng.normal(size=(3, 4)), np.zeros(3), ("a", "b", "c"), "hinge_ovo"
        )
        save_classifiers(folder / "x.safetensors", [model, model], {})
        return (folder / "x.safetensors").read_bytes()


@settings(max_examples=tried(60))
@given(data=st.data())
def test_damaged_classifiers(data):
    with scratch() as folder, guarded():
        COUNT["tried"] += 1
        file = folder / "x.safetensors"
        file.write_bytes(data.draw(damaged(classifier())))
        load_classifier(file, 1).decision(np.ones((2, 4)))


@settings(max_examples=tried(40))
@given(data=st.data())
def test_classifiers_of_another_shape(data):
    """The header says what it likes about names, shapes, classes and estimator."""
    length = int.from_bytes(classifier()[:8], "little")
    header = json.loads(classifier()[8 : 8 + length])
    key = data.draw(st.sampled_from(sorted(header)))
    if key == "__metadata__":
        inner = data.draw(st.sampled_from(["classes", "estimator"]))
        new = data.draw(values.map(lambda v: json.dumps(v, default=str)) | st.text(max_size=9))
        header[key] = header[key] | {inner: new}
    else:
        header[data.draw(st.sampled_from(["coef.x", "coef.", "coef.1.1", "mean.9"]))] = header.pop(key)
    text = json.dumps(header).encode()
    with scratch() as folder, guarded():
        COUNT["tried"] += 1
        file = folder / "x.safetensors"
        file.write_bytes(len(text).to_bytes(8, "little") + text + classifier()[8 + length :])
        load_classifier(file, 1).decision(np.ones((2, 4)))


def test_what_was_tried_is_told():
    assert COUNT["tried"] == 0 or COUNT["noticed"] > 0
    survived("manifests, splits, features, scores, classifiers: damaged", tried=COUNT["tried"], losses=0)
