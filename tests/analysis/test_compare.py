import itertools

import numpy as np
import pyarrow as pa
import pytest
from planted_cells import planted, write_cell
from sklearn.metrics import accuracy_score, f1_score

from discern.analysis import compare
from discern.analysis.compare import Predicted, compare_cells, compare_models
from discern.config import CompareSettings
from discern.contracts import COMPARISONS, PREDICTIONS, read_table, write_table
from discern.errors import DiscernError

SETTINGS = CompareSettings(n_bootstrap=400, seed=1)


def noisy(true, share_right, rng, k):
    """Predictions that are right with a given probability, otherwise another class."""
    wrong = (true + rng.integers(1, k, len(true))) % k
    return np.where(rng.random(len(true)) < share_right, true, wrong).astype(np.int32)


def cell(model, true, shares, seed=0, k=3):
    rng = np.random.default_rng(seed)
    ids = [f"image_{i:04d}" for i in range(len(true))]
    return Predicted(model, model, ids, true, np.array([noisy(true, s, rng, k) for s in shares]), k)


def write(path, one, *, dataset="planted", protocol="image", order=1):
    """The predictions file of a cell; ``order`` -1 turns the rows round."""
    folds, n = one.predicted.shape
    columns = {
        "image_id": one.image_ids * folds,
        "fold": np.repeat(np.arange(folds), n).astype(np.int8),
        "true": np.tile(one.true, folds),
        "predicted": one.predicted.ravel(),
        "decision": [[0.0] * one.k] * (folds * n),
    }
    table = pa.table(columns, schema=PREDICTIONS.schema()).take(list(range(folds * n))[::order])
    about = {"model": one.model, "dataset": dataset, "protocol": protocol, "classes": list("abc")}
    write_table(PREDICTIONS, path, table, about)
    return path


def test_differences_and_intervals_equal_a_loop_over_resamples():
    true = np.random.default_rng(0).integers(0, 3, 40).astype(np.int32)
    a, b = cell("a", true, [0.9, 0.8], 1), cell("b", true, [0.6, 0.7], 2)
    settings = CompareSettings(n_bootstrap=60, seed=5)
    rows = {r["metric"]: r for r in compare_cells([a, b], a.image_ids, settings)}
    draws = np.random.default_rng(5).integers(40, size=(60, 40))
    scores = {
        "accuracy": accuracy_score,
        "macro_f1": lambda t, p: f1_score(t, p, average="macro"),
    }
    for metric, score in scores.items():

        def difference(rows, score=score):
            means = [np.mean([score(true[rows], p[rows]) for p in one.predicted]) for one in (a, b)]
            return means[0] - means[1]

        low, high = np.quantile([difference(draw) for draw in draws], [0.025, 0.975])
        assert rows[metric]["difference"] == pytest.approx(difference(np.arange(40)))
        assert (rows[metric]["low"], rows[metric]["high"]) == pytest.approx((low, high))


@pytest.mark.parametrize("portion", [1, 130, 1000, 10**6])  # draws at once, of 60 x 41
def test_portions_of_resamples_change_nothing(portion, monkeypatch):
    true = np.random.default_rng(3).integers(0, 3, 41).astype(np.int32)  # odd: draws go in halves of words
    cells = [cell(name, true, [share, share], i) for i, (name, share) in enumerate([("a", 0.9), ("b", 0.6)])]
    settings = CompareSettings(n_bootstrap=60, seed=5)
    draws = np.random.default_rng(5).integers(41, size=(60, 41))
    times = np.array([np.bincount(draw, minlength=41) for draw in draws])
    whole = compare_cells(cells, cells[0].image_ids, settings)
    monkeypatch.setattr(compare, "PORTION", portion)
    found = list(compare.resamples(41, settings))
    assert np.array_equal(np.concatenate(found), np.vstack([np.ones(41), times]))
    assert max(p.size for p in found) <= max(portion, 41)
    assert compare_cells(cells, cells[0].image_ids, settings) == whole


def test_better_model_is_found_and_equal_models_are_not_told_apart():
    true = np.arange(300, dtype=np.int32) % 3
    cells = [
        cell("good", true, [0.9] * 3, 1),
        cell("bad", true, [0.6] * 3, 2),
        cell("same", true, [0.9] * 3, 3),
    ]
    rows = {
        (r["metric"], r["model_a"], r["model_b"]): r
        for r in compare_cells(cells, cells[0].image_ids, SETTINGS)
    }
    assert len(rows) == 6
    for metric in ("accuracy", "macro_f1"):
        assert rows[metric, "good", "bad"]["low"] > 0.15
        even = rows[metric, "good", "same"]
        assert even["low"] < 0 < even["high"]


def test_model_against_itself_has_no_uncertainty():
    true = np.arange(60, dtype=np.int32) % 3
    one = cell("a", true, [0.7] * 2)
    for row in compare_cells([one, one._replace(model="b")], one.image_ids, SETTINGS):
        assert row["difference"] == row["low"] == row["high"] == 0


def test_whole_groups_make_wider_intervals():
    """Ten groups whose 30 images are all right or all wrong together carry the news of ten images."""
    true = np.zeros(300, dtype=np.int32)
    group = np.arange(300) // 30
    lucky = (group % 2).astype(np.int32)[None]
    ids = [f"image_{i:04d}" for i in range(300)]
    cells = [Predicted("a", "a", ids, true, lucky, 3), Predicted("b", "b", ids, true, 0 * lucky, 3)]
    widths = []
    for units in (ids, [f"patient {g}" for g in group]):
        row = compare_cells(cells, units, SETTINGS)[0]
        widths.append(row["high"] - row["low"])
    assert widths[1] > 4 * widths[0]


def test_files_of_several_sets_and_protocols(tmp_path):
    x, y = planted(90, 4, 3, distance=1)
    groups = [f"patient {i // 30}" for i in range(90)]
    manifest = write_cell(tmp_path, x, y, "abc", groups=groups).manifest
    files = []
    for protocol, model in itertools.product(("image", "group"), "abc"):
        one = cell(model, y, [0.5, 0.8], ord(model))
        order = -1 if model == "b" else 1
        files.append(write(tmp_path / f"{model}.{protocol}", one, protocol=protocol, order=order))
    files.append(write(tmp_path / "lonely", cell("a", y, [0.5]), dataset="other"))
    compare_models(files, [manifest], SETTINGS, tmp_path / "out")
    table, about = read_table(COMPARISONS, tmp_path / "out")
    rows = table.to_pylist()
    assert len(rows) == 2 * 2 * 3  # protocols, metrics, pairs
    assert {r["dataset"] for r in rows} == {"planted"}
    assert (about["n_bootstrap"], about["seed"]) == (400, 1)
    assert "not another split" in about["interval"]
    pair = {
        r["protocol"]: r for r in rows if (r["metric"], r["model_a"], r["model_b"]) == ("accuracy", "a", "b")
    }
    assert pair["image"]["difference"] == pair["group"]["difference"]
    assert pair["image"]["low"] != pair["group"]["low"]
    compare_models(files, [manifest], SETTINGS, tmp_path / "again")
    assert read_table(COMPARISONS, tmp_path / "again")[0].equals(table)


@pytest.mark.parametrize("models", ["", "a"])
def test_nothing_to_compare_makes_an_empty_table(tmp_path, models):
    y = np.arange(30, dtype=np.int32) % 3
    files = [write(tmp_path / m, cell(m, y, [0.5])) for m in models]
    compare_models(files, [], SETTINGS, tmp_path / "out")
    assert read_table(COMPARISONS, tmp_path / "out")[0].num_rows == 0


def test_other_hold_out_images_are_refused(tmp_path):
    y = np.arange(30, dtype=np.int32) % 3
    one, other = cell("a", y, [0.5]), cell("b", y, [0.5])
    other.image_ids[4] = "stranger"
    files = [write(tmp_path / "a", one), write(tmp_path / "b", other)]
    with pytest.raises(DiscernError, match="image 'image_0004' is in only one of them"):
        compare_models(files, [], SETTINGS, tmp_path / "out")
    files[1] = write(tmp_path / "b", cell("b", (y + 1) % 3, [0.5]))
    with pytest.raises(DiscernError, match="true labels differ"):
        compare_models(files, [], SETTINGS, tmp_path / "out")
