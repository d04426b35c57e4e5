"""Planted twins are found, whatever else lies beside them; near and far are told apart."""

import json

import numpy as np
import pytest

from discern.analysis import identical
from discern.analysis.identical import THRESHOLD, compare, match_features
from discern.contracts import FEATURES, ContractError, feature_table, write_table

N, D = 700, 16  # more rows than are read at once


@pytest.fixture
def shelf(tmp_path):
    def save(model, values, dataset="ct", ids=None):
        values = np.asarray(values, np.float32)
        ids = ids or [f"i{i:04}" for i in range(len(values))]
        file = tmp_path / dataset / f"{model}.parquet"
        about = {"model": model, "dataset": dataset, "d": values.shape[1]}
        write_table(FEATURES, file, feature_table(ids, values), about)
        return file

    return save


@pytest.fixture
def values():
    # A large common offset, as pooled features have: it must not hide a difference.
    return np.random.default_rng(0).standard_normal((N, D)) + 50


def found(result):
    return {(p["a"], p["b"]): p["same"] for p in result["pairs"]}


def test_bits_rounding_and_difference_are_told_apart(shelf, values):
    noise = np.random.default_rng(1).standard_normal((N, D))
    files = [
        shelf("one", values),
        shelf("twin", values),
        shelf("rounded", values + 0.2 * THRESHOLD * noise),
        shelf("tuned", values + 2 * THRESHOLD * noise),
        shelf("other", noise + 50),
        shelf("longer", np.ones((N, D + 1))),
    ]
    result = compare(files)
    assert found(result) == {
        ("one", "twin"): "bits", ("one", "rounded"): "rounding", ("one", "tuned"): "",
        ("one", "other"): "", ("twin", "rounded"): "rounding", ("twin", "tuned"): "",
        ("twin", "other"): "", ("rounded", "tuned"): "", ("rounded", "other"): "", ("tuned", "other"): "",
    }  # fmt: skip
    assert (result["dataset"], result["n"], result["models"][-1]) == ("ct", N, "longer")
    differences = {(p["a"], p["b"]): p["difference"] for p in result["pairs"]}
    assert differences["one", "rounded"] == pytest.approx(0.2 * THRESHOLD, rel=0.05)
    assert differences["one", "other"] == pytest.approx(2**0.5, rel=0.05)


def test_one_other_value_is_not_bit_identical(shelf, values):
    changed = values.copy()
    changed[-1, -1] = np.nextafter(np.float32(changed[-1, -1]), np.float32(np.inf))
    assert found(compare([shelf("one", values), shelf("two", changed)])) == {("one", "two"): "rounding"}


def test_constant_features(shelf):
    zeros = np.zeros((4, 2))
    result = compare([shelf("a", zeros), shelf("b", zeros), shelf("c", zeros + 1)])
    assert found(result) == {("a", "b"): "bits", ("a", "c"): "", ("b", "c"): ""}


def test_files_are_read_a_few_rows_at_a_time(shelf, values, monkeypatch):
    seen = []
    blocks = identical._blocks

    def watched(matrix):
        for ids, block in blocks(matrix):
            seen.append(len(block))
            yield ids, block

    monkeypatch.setattr(identical, "_blocks", watched)
    compare([shelf("one", values), shelf("two", values)])
    assert sum(seen) == 2 * N
    assert max(seen) <= identical.ROWS < N


def test_other_images_other_data_sets_and_damage_are_refused(shelf, values, tmp_path):
    one = shelf("one", values)
    with pytest.raises(ContractError, match="same images"):
        compare([one, shelf("two", values, ids=[f"j{i}" for i in range(N)])])
    with pytest.raises(ContractError, match="same images"):
        compare([one, shelf("short", values[:10])])
    with pytest.raises(ContractError, match="more than one data set"):
        compare([one, shelf("one", values, dataset="mr")])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(one.read_bytes()[:-20])
    with pytest.raises(ContractError, match=r"broken\.parquet: damaged"):
        compare([one, broken])


def test_a_single_model_makes_an_empty_list(shelf, values, tmp_path):
    match_features([shelf("one", values)], tmp_path / "ct.json")
    assert json.loads((tmp_path / "ct.json").read_text())["pairs"] == []
