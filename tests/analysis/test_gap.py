"""The gap between protocols: against a plain loop, by simulated coverage, and on files."""

import numpy as np
import pytest
from planted_cells import planted, write_cell
from sklearn.metrics import accuracy_score, f1_score
from test_compare import cell, write

from discern.analysis.compare import Predicted
from discern.analysis.gap import compare_protocols, draws, gaps
from discern.config import CompareSettings
from discern.contracts import GAPS, read_table
from discern.errors import DiscernError

SCORES = {"accuracy": accuracy_score, "macro_f1": lambda t, p: f1_score(t, p, average="macro")}


def part(one, rows, name="m"):
    """A cell of some images of another."""
    ids = [one.image_ids[i] for i in rows]
    return Predicted(name, name, ids, one.true[rows], one.predicted[:, rows], one.k)


def test_gap_and_interval_equal_a_loop_that_repeats_images():
    """16 patients of 5 images, the last 10 images without a patient, 3 classes, 2 and 3 fold models."""
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, 90).astype(np.int32)
    by_image = part(cell("m", true, [0.9, 0.8], 1), np.sort(rng.permutation(90)[:20]))
    by_group = part(cell("m", true, [0.6, 0.7, 0.5], 2), np.r_[5:20, 80:83])
    groups = {f"image_{i:04d}": f"p{i // 5}" if i < 80 else None for i in range(90)}
    settings = CompareSettings(n_bootstrap=40, seed=5)
    rows = {r["metric"]: r for r in gaps([(by_image, by_group)], groups, settings)}

    unit_of = {image: group or image for image, group in groups.items()}
    held_out = [[unit_of[i] for i in one.image_ids] for one in (by_image, by_group)]
    # The documented order of units: by their first image in the manifest.
    used = [u for u in dict.fromkeys(unit_of.values()) if u in {*held_out[0], *held_out[1]}]
    masks = [np.array([u in part for u in used]) for part in held_out]
    times = np.concatenate(list(draws(26, masks, settings)))
    assert len(times) == 40

    def score(metric, one, units, drawn):
        rows = [i for i, unit in enumerate(units) for _ in range(int(drawn[used.index(unit)]))]
        return np.mean([SCORES[metric](one.true[rows], p[rows]) for p in one.predicted])

    for metric, row in rows.items():

        def gap(drawn, metric=metric):
            two = zip((by_image, by_group), held_out, strict=True)
            first, second = (score(metric, one, units, drawn) for one, units in two)
            return first - second

        assert row["difference"] == pytest.approx(gap(np.ones(len(used))))
        assert row["difference"] == pytest.approx(row["image"] - row["group"])
        low, high = np.quantile([gap(drawn) for drawn in times], [0.025, 0.975])
        assert (row["low"], row["high"]) == pytest.approx((low, high))
        assert (row["n_image"], row["n_group"], row["units_group"]) == (20, 18, 6)
        assert row["units_image"] == len(set(held_out[0]))


def test_draws_are_multinomial_over_all_groups_and_leave_no_hold_out_empty():
    """50 groups, of which 20 are held out by image and 3 others by group: nearly 5 % are drawn again."""
    masks = [np.arange(23) < 20, np.arange(23) >= 20]
    times = np.concatenate(list(draws(50, masks, CompareSettings(n_bootstrap=20_000, seed=0))))
    assert times.shape == (20_000, 23)
    assert all(times[:, mask].any(axis=1).all() for mask in masks)
    kept = 1 - (1 - 3 / 50) ** 50
    mean = times.mean(axis=0)
    np.testing.assert_allclose(mean[20:], 1 / kept, atol=0.04)  # given that they are not all absent
    np.testing.assert_allclose(mean[:20].mean(), 47 / 47 - 0.003, atol=0.01)
    np.testing.assert_allclose(times[:, :20].var(axis=0).mean(), 1 - 1 / 50, atol=0.03)


def test_blocks_do_not_change_the_draws_in_number(monkeypatch):
    monkeypatch.setattr("discern.analysis.gap.BLOCK_ENTRIES", 100)
    blocks = list(draws(30, [np.ones(30, bool)] * 2, CompareSettings(n_bootstrap=10, seed=0)))
    assert [len(b) for b in blocks] == [3, 3, 3, 1]


def simulated(rng, n_groups=120):
    """One data set of patients who are easy or hard under both protocols; the true gap is 0.15."""
    sizes = rng.integers(1, 12, n_groups)
    patient = np.repeat(np.arange(n_groups), sizes)
    n = len(patient)
    easy = rng.choice([0.25, 0.95], n_groups)[patient]
    ids = [f"i{i}" for i in range(n)]
    held_image = np.sort(rng.permutation(n)[: n // 5])
    held_group = np.flatnonzero(np.isin(patient, rng.permutation(n_groups)[: n_groups // 4]))
    true = np.zeros(n, np.int32)
    cells = []
    for rows, right in ((held_image, easy), (held_group, easy - 0.15)):
        predicted = (rng.random((1, n)) > right)[:, rows].astype(np.int32)
        cells.append(Predicted("f", "m", [ids[i] for i in rows], true[rows], predicted, 2))
    return cells, dict(zip(ids, [f"p{p}" for p in patient], strict=True))


def test_intervals_cover_the_true_gap_as_often_as_they_say():
    """And those that resample single images, as if a patient's images were independent, do not."""
    rng = np.random.default_rng(11)
    covered, ignoring = [], []
    for seed in range(300):
        cells, groups = simulated(rng)
        settings = CompareSettings(n_bootstrap=300, seed=seed)
        for known, found in ((groups, covered), (dict.fromkeys(groups), ignoring)):
            row = gaps([tuple(cells)], known, settings)[0]
            found.append(row["low"] <= 0.15 <= row["high"])
    assert 0.92 <= np.mean(covered) <= 0.98
    assert np.mean(ignoring) < np.mean(covered) - 0.03


def test_what_both_hold_outs_share_cancels():
    """Equal hold-outs and predictions: no gap and no uncertainty, whatever the draw."""
    true = np.arange(60, dtype=np.int32) % 3
    one = cell("m", true, [0.7, 0.6])
    groups = {image: f"p{i // 6}" for i, image in enumerate(one.image_ids)}
    for row in gaps([(one, one)], groups, CompareSettings(n_bootstrap=50)):
        assert row["difference"] == row["low"] == row["high"] == 0


def test_a_hold_out_of_one_group_has_no_interval():
    true = np.arange(30, dtype=np.int32) % 3
    one = cell("m", true, [0.7])
    groups = {image: "p1" if i < 10 else f"p{i}" for i, image in enumerate(one.image_ids)}
    row = gaps([(one, part(one, np.arange(10)))], groups, CompareSettings(n_bootstrap=50))[0]
    assert (row["low"], row["high"], row["units_group"]) == (None, None, 1)
    assert row["difference"] == pytest.approx(row["image"] - row["group"])


@pytest.fixture
def files(tmp_path):
    """Models a and b by both protocols, c by image alone; another data set by image alone."""
    x, y = planted(90, 4, 3, distance=1)
    manifest = write_cell(tmp_path, x, y, "abc", groups=[f"p{i // 10}" for i in range(90)]).manifest
    found = []
    for model in "abc":
        one = cell(model, y, [0.9, 0.8], ord(model))
        found.append(write(tmp_path / f"{model}.image", part(one, np.arange(0, 90, 4), model)))
        if model != "c":
            other = part(cell(model, y, [0.5, 0.6], ord(model)), np.arange(40, 60), model)
            found.append(write(tmp_path / f"{model}.group", other, protocol="group"))
    found.append(write(tmp_path / "other", cell("a", y, [0.5]), dataset="other"))
    return manifest, found


def test_files_of_several_models_and_sets(files, tmp_path):
    manifest, found = files
    settings = CompareSettings(n_bootstrap=50, seed=1)
    compare_protocols(found, [manifest], settings, tmp_path / "out")
    table, about = read_table(GAPS, tmp_path / "out")
    assert [(r["metric"], r["model"]) for r in table.to_pylist()] == [
        ("accuracy", "a"), ("accuracy", "b"), ("macro_f1", "a"), ("macro_f1", "b"),
    ]  # fmt: skip
    assert set(table["dataset"].to_pylist()) == {"planted"}
    assert (about["n_bootstrap"], about["seed"]) == (50, 1)
    assert "not another split" in about["interval"]
    compare_protocols(found, [manifest], settings, tmp_path / "again")
    assert read_table(GAPS, tmp_path / "again")[0].equals(table)


def test_nothing_to_compare_makes_an_empty_table(files, tmp_path):
    compare_protocols(files[1][-1:], [], CompareSettings(), tmp_path / "out")
    assert read_table(GAPS, tmp_path / "out")[0].num_rows == 0


def test_missing_manifests_and_images_are_named(files, tmp_path):
    manifest, found = files
    with pytest.raises(DiscernError, match="no manifest of 'planted'"):
        compare_protocols(found, [], CompareSettings(), tmp_path / "out")
    one = cell("a", np.arange(3, dtype=np.int32), [0.5])
    one.image_ids[1] = "stranger"
    write(tmp_path / "a.image", one)
    with pytest.raises(DiscernError, match="'stranger' is not in the manifest"):
        compare_protocols(found[:2], [manifest], CompareSettings(), tmp_path / "out")
