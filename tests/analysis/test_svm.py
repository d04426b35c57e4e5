import inspect
import logging
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from planted_cells import planted, write_cell
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from discern.analysis.linear import load_classifier, predicted_labels
from discern.analysis.svm import fold as svm_fold
from discern.analysis.svm import scikit
from discern.analysis.svm.fitting import fit_cell
from discern.analysis.svm.fold import Part, fit_fold, standardisation
from discern.config import SvmSettings
from discern.contracts import (
    FEATURES,
    MANIFEST,
    PREDICTIONS,
    SCORES,
    SPLITS,
    feature_table,
    read_table,
    write_table,
)
from discern.errors import DiscernError

SETTINGS = SvmSettings(t=[1, 100, 10000])


def fit(folder, files, settings=SETTINGS, **options):
    out = [folder / name for name in ("scores.parquet", "predictions.parquet", "classifier.safetensors")]
    options = {"protocol": "image"} | options
    fit_cell(files.features, files.manifest, files.splits, settings, *out, **options)
    scores, about = read_table(SCORES, out[0])
    return scores.to_pylist(), about, read_table(PREDICTIONS, out[1])[0], out[2]


def names(k):
    return tuple("abcdefgh"[:k])


def reference(features, labels, t, **options):
    """LinearSVC on all standardised features, unreduced, tightly converged."""
    scaler = StandardScaler().fit(features.astype(np.float64))
    c = t * features.shape[1] / len(labels)
    model = LinearSVC(C=c, tol=1e-8 / c, max_iter=50_000, random_state=0, **options)
    return scaler, model.fit(scaler.transform(features.astype(np.float64)), labels)


@pytest.mark.parametrize(("n", "d", "k"), [(60, 150, 4), (60, 150, 2), (200, 20, 3)])
def test_fits_are_those_of_linear_svc_on_the_unreduced_features(n, d, k):
    x, y = planted(2 * n, d, k, distance=3)
    candidates = fit_fold(Part(x[:n], y[:n]), Part(x[n:], y[n:]), names(k), SvmSettings(t=[1, 100]))
    for candidate in candidates:
        scaler, model = reference(x[:n], y[:n], candidate.record["t"], dual=True)
        theirs = model.decision_function(scaler.transform(x[n:].astype(np.float64)))
        theirs = np.column_stack([-theirs, theirs]) if k == 2 else theirs
        ours = candidate.classifier.decision(x[n:])
        np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.abs(theirs).max())
        np.testing.assert_array_equal(predicted_labels(ours), theirs.argmax(axis=1))
        assert candidate.record["converged"]
        assert candidate.record["relative_gap"] <= 1e-4


@pytest.mark.parametrize("t", [1, 100, 10000])
def test_overlapping_classes_with_more_images_than_features_reach_the_optimum(t):
    x, y = planted(600, 40, 3, distance=0.3)
    (candidate,) = fit_fold(Part(x, y), Part(x, y), names(3), SvmSettings(t=[t]))
    assert candidate.record["accuracy"] < 0.9  # they do overlap
    assert candidate.record["relative_gap"] <= 1e-6


def test_same_image_under_two_labels_still_converges():
    x, y = planted(40, 100, 2, distance=3)
    x[1] = x[0]  # labels 0 and 1
    (candidate,) = fit_fold(Part(x, y), Part(x, y), names(2), SvmSettings(t=[10000]))
    assert candidate.record["converged"]
    np.testing.assert_allclose(candidate.classifier.decision(x[:2]), 0, atol=1e-3)


def test_exact_fit_that_did_not_reach_its_certificate_fails_by_name():
    x, y = planted(40, 100, 2, distance=0.1)
    settings = SvmSettings(t=[1], max_iter=1)
    with pytest.raises(
        DiscernError, match=r"toy, fold 4, t = 1[\s\S]*relative gap[\s\S]*0\.0001[\s\S]*max_iter"
    ):
        fit_fold(Part(x, y), Part(x, y), names(2), settings, "toy, fold 4")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("options", [{"solver": "liblinear"}, {"estimator": "hinge_ovo"}])
def test_fit_of_scikit_learn_that_stopped_early_is_recorded_and_named(options, caplog, monkeypatch):
    monkeypatch.setattr(scikit, "LIBSVM_ITERATIONS", 10)
    x, y = planted(200, 150, 2, distance=0.1)
    with caplog.at_level(logging.WARNING, "discern"):
        (candidate,) = fit_fold(
            Part(x, y), Part(x, y), names(2), SvmSettings(t=[10000], **options), "toy, fold 4"
        )
    assert not candidate.record["converged"]
    assert "toy, fold 4, t = 10000: not converged" in caplog.text


def test_folds_in_threads_are_those_one_after_the_other(tmp_path):
    x, y = planted(150, 30, 3, distance=1)
    files = write_cell(tmp_path, x, y, names(3))
    alone = fit(tmp_path, files)
    tensors = [load_classifier(alone[3], fold) for fold in range(3)]
    together = fit(tmp_path, files, threads=3)
    assert together[2].equals(alone[2])
    for fold, model in enumerate(tensors):
        np.testing.assert_array_equal(load_classifier(together[3], fold).coef, model.coef)


def test_other_folds_images_change_nothing_about_a_fold(tmp_path):
    """Fold 0 learns from the others: its own images take part in choosing t alone."""
    x, y = planted(150, 30, 3, distance=1)
    files = write_cell(tmp_path, x, y, names(3))
    settings = SvmSettings(t=[10])
    model = load_classifier(fit(tmp_path, files, settings)[3], 0)
    x[files.fold_of == 0] += 5
    write_table(FEATURES, files.features, feature_table(files.ids, x), {"model": "toy", "dataset": "planted"})
    again = load_classifier(fit(tmp_path, files, settings)[3], 0)
    np.testing.assert_array_equal(again.coef, model.coef)


@pytest.mark.parametrize(("d", "k"), [(200, 3), (12, 2), (12, 4)])
def test_certificate_can_be_recomputed_from_the_files(tmp_path, d, k):
    """Primal P and dual D of every fold, with alpha = 2 C slack, from features, splits and classifier."""
    x, y = planted(150, d, k, distance=0.6)
    files = write_cell(tmp_path, x, y, names(k))
    rows, _, _, path = fit(tmp_path, files)
    manifest, features = read_table(MANIFEST, files.manifest)[0], read_table(FEATURES, files.features)[0]
    splits = read_table(SPLITS, files.splits)[0]
    labels, raw = manifest["label"].to_numpy(), np.array(features["feature"].to_pylist(), dtype=np.float64)
    role, fold_of = np.array(splits["role"].to_pylist()), np.array(splits["fold"].to_pylist(), dtype=float)
    for row in rows:
        train = (role == "train") & (fold_of != row["fold"])
        model = load_classifier(path, row["fold"])
        standardised = (raw[train] - model.mean) / model.scale
        gaps = []
        for label, w, b in zip([1] if k == 2 else range(k), model.coef, model.intercept, strict=True):
            signs = np.where(labels[train] == label, 1.0, -1.0)
            slack = np.maximum(0, 1 - signs * (standardised @ w + b))
            alpha = 2 * row["C"] * slack
            primal = 0.5 * (w @ w + b * b) + row["C"] * (slack @ slack)
            from_alpha = (alpha * signs) @ standardised, alpha @ signs
            norm = from_alpha[0] @ from_alpha[0] + from_alpha[1] ** 2
            dual = alpha.sum() - 0.5 * norm - (alpha @ alpha) / (4 * row["C"])
            gaps.append((primal - dual) / primal)
            assert primal - dual >= -1e-9 * primal
        assert max(gaps) <= 1e-6
        assert max(gaps) == pytest.approx(row["relative_gap"], abs=1e-9)
        assert all(fit["relative_gap"] <= 1e-6 for fit in row["validation"])
        assert [fit["t"] for fit in row["validation"]] == SETTINGS.t


def test_chosen_t_is_the_smallest_of_the_best():
    x, y = planted(120, 10, 3, distance=0.8)
    candidates = fit_fold(
        Part(x[:80], y[:80]), Part(x[80:], y[80:]), names(3), SvmSettings(t=[0.01, 1, 1.001])
    )
    made_up = [
        c._replace(record=c.record | {"macro_f1": f})
        for c, f in zip(candidates, (0.5, 0.7, 0.7), strict=True)
    ]
    assert svm_fold.best(made_up, SvmSettings()).record["t"] == 1


def test_selection_never_sees_the_hold_out(tmp_path):
    """Other hold-out features and labels change nothing but the hold-out's own scores."""
    assert not any("test" in name for name in inspect.signature(fit_fold).parameters)
    x, y = planted(150, 12, 3, distance=1)
    files = write_cell(tmp_path, x, y, names(3))
    rows, _, _, before = fit(tmp_path, files)
    models = [load_classifier(before, fold) for fold in range(3)]
    held = files.fold_of < 0
    x[held] = np.random.default_rng(3).normal(size=x[held].shape) * 1000
    write_table(FEATURES, files.features, feature_table(files.ids, x), {"model": "toy", "dataset": "planted"})
    again, _, _, after = fit(tmp_path, files)
    assert [row["t"] for row in again] == [row["t"] for row in rows]
    for fold, model in enumerate(models):
        np.testing.assert_array_equal(load_classifier(after, fold).coef, model.coef)
        np.testing.assert_array_equal(load_classifier(after, fold).mean, model.mean)
    assert again[0]["accuracy"] != rows[0]["accuracy"]


def test_cell_scores_separable_classes_perfectly_and_keeps_its_contracts(tmp_path):
    x, y = planted(150, 200, 3, distance=6)
    files = write_cell(tmp_path, x, y, names(3))
    rows, about, predictions, classifier = fit(tmp_path, files)
    held = files.fold_of < 0
    for fold, row in enumerate(rows):
        assert row["accuracy"] == row["macro_f1"] == row["auroc"] == 1
        assert row["t"] == 1  # all t score 1 on the validation part
        assert row["C"] == pytest.approx(row["t"] * 200 / row["n_train"])
        assert row["n_train"] + row["n_validation"] + row["n_test"] == 150
        assert row["n_train"] == np.sum(~held & (files.fold_of != fold))
        assert [v["t"] for v in row["validation"]] == SETTINGS.t
        assert row["positive_f1"] is None
    assert about["model"] == "toy"
    assert about["settings"]["t"] == SETTINGS.t
    assert about["features_fingerprint"] == "abc"
    table = predictions.to_pydict()
    assert table["image_id"][: held.sum()] == [i for i, h in zip(files.ids, held, strict=True) if h]
    ours = load_classifier(classifier, 2).decision(x[held])
    np.testing.assert_allclose(np.array(table["decision"][2 * held.sum() :]), ours)


@pytest.mark.parametrize("solver", ["newton", "liblinear"])
@pytest.mark.parametrize(("d", "distance"), [(200, 0.25), (12, 1.5)])
def test_hold_out_predictions_can_be_recomputed_with_scikit_learn_alone(tmp_path, d, distance, solver):
    x, y = planted(150, d, 3, distance)
    files = write_cell(tmp_path, x, y, names(3))
    rows, about, predictions, _ = fit(tmp_path, files, SvmSettings(t=[1, 100], solver=solver))
    held = files.fold_of < 0
    for fold, row in enumerate(rows):
        train = ~held & (files.fold_of != fold)
        scaler = StandardScaler().fit(x[train].astype(np.float64))
        model = LinearSVC(C=row["C"], **about["estimator_parameters"])
        model.fit(scaler.transform(x[train].astype(np.float64)), y[train])
        ours = predictions.filter(np.array(predictions["fold"]) == fold)["predicted"].to_pylist()
        assert model.predict(scaler.transform(x[held].astype(np.float64))).tolist() == ours
        assert 0.4 < row["accuracy"] < 1  # not settled by separability alone


def test_shuffled_labels_score_chance(tmp_path):
    x, y = planted(400, 30, 2, distance=6)
    files = write_cell(tmp_path, x, np.random.default_rng(5).permutation(y), names(2))
    rows, *_ = fit(tmp_path, files, SvmSettings(t=[1]))
    assert 0.3 < np.mean([row["accuracy"] for row in rows]) < 0.7


def test_features_in_another_order_are_joined_by_image(tmp_path):
    x, y = planted(90, 20, 3, distance=5)
    files = write_cell(tmp_path, x, y, names(3))
    turned = feature_table(files.ids[::-1], x[::-1])
    write_table(FEATURES, files.features, turned, {"model": "toy", "dataset": "planted"})
    rows, *_ = fit(tmp_path, files)
    assert rows[0]["accuracy"] == 1


def test_missing_and_extra_images_are_named(tmp_path):
    x, y = planted(60, 8, 2, distance=3)
    files = write_cell(tmp_path, x, y, names(2))
    write_table(FEATURES, files.features, feature_table(files.ids[:50], x[:50]), {"model": "toy"})
    with pytest.raises(DiscernError, match=r"features\.parquet: image 'image_0050' of .*manifest"):
        fit(tmp_path, files)
    write_table(FEATURES, files.features, feature_table(files.ids, x), {"model": "toy"})
    splits, about = read_table(SPLITS, files.splits)
    stranger = {"image_id": ["stranger"], "role": ["train"], "fold": [0]}
    more = pa.concat_tables([splits, pa.table(stranger, schema=splits.schema)])
    write_table(SPLITS, files.splits, more, about)
    with pytest.raises(DiscernError, match=r"manifest\.parquet: image 'stranger'"):
        fit(tmp_path, files)


def test_features_of_more_images_are_those_of_a_subset(tmp_path):
    x, y = planted(60, 8, 2, distance=1)
    files = write_cell(tmp_path, x, y, names(2))
    alone = fit(tmp_path, files)
    others = np.random.default_rng(3).normal(size=(7, 8)).astype(np.float32)
    order = np.random.default_rng(4).permutation(67)
    ids = np.array([*files.ids, *(f"other_{i}" for i in range(7))])[order]
    table = feature_table(ids.tolist(), np.vstack([x, others])[order])
    write_table(FEATURES, files.features, table, {"model": "toy", "dataset": "planted", "fingerprint": "abc"})
    scores, _, predictions, _ = fit(tmp_path, files)
    assert predictions.equals(alone[2])
    assert [row["t"] for row in scores] == [row["t"] for row in alone[0]]


def test_splits_of_another_protocol_are_refused(tmp_path):
    x, y = planted(60, 8, 2, distance=3)
    files = write_cell(tmp_path, x, y, names(2), protocol="group")
    with pytest.raises(
        DiscernError, match="made for planted, protocol group; asked for planted, protocol image"
    ):
        fit(tmp_path, files)


@pytest.mark.parametrize("estimator", ["squared_hinge_ovr", "hinge_ovo"])
def test_constant_features_duplicates_and_single_images_do_not_break_it(tmp_path, estimator):
    x, y = planted(90, 120, 3, distance=5)
    x[:, 3] = 7.3
    x[10:20] = x[13]
    y[10:20] = y[13]
    y[40] = 3  # the only image of its class
    y[41] = 4
    fold_of = np.where(np.arange(90) % 5 == 0, -1, np.arange(90) // 3 % 3)
    assert fold_of[40] == -1  # and never in any training part
    files = write_cell(tmp_path, x, y, names(5), fold_of=fold_of)
    rows, _, predictions, classifier = fit(tmp_path, files, SvmSettings(t=[1], estimator=estimator))
    assert all(row["converged"] for row in rows)
    assert rows[0]["auroc"] is None
    assert 0.9 < rows[0]["accuracy"] < 1
    assert np.isfinite(load_classifier(classifier, 0).coef).all()
    assert 3 not in predictions["predicted"].to_pylist()


def test_a_training_part_of_one_class_is_refused():
    x, y = planted(20, 5, 2, distance=3)
    with pytest.raises(DiscernError, match="single class"):
        fit_fold(Part(x, 0 * y), Part(x, y), names(2), SETTINGS, "toy")


@pytest.mark.parametrize(("n", "d", "k"), [(60, 150, 3), (60, 150, 2), (150, 20, 4)])
def test_hinge_against_each_other_is_svc(n, d, k):
    x, y = planted(2 * n, d, k, distance=2)
    settings = SvmSettings(t=[1], estimator="hinge_ovo")
    (candidate,) = fit_fold(Part(x[:n], y[:n]), Part(x[n:], y[n:]), names(k), settings)
    scaler = StandardScaler().fit(x[:n].astype(np.float64))
    model = SVC(kernel="linear", C=d / n).fit(scaler.transform(x[:n].astype(np.float64)), y[:n])
    theirs = model.decision_function(scaler.transform(x[n:].astype(np.float64)))
    theirs = np.column_stack([-theirs, theirs]) if k == 2 else theirs
    np.testing.assert_allclose(candidate.classifier.decision(x[n:]), theirs, atol=2e-2)
    assert candidate.record["relative_gap"] is None


def test_predictions_of_svc_can_be_recomputed_with_scikit_learn_alone(tmp_path):
    """On weak classes many votes are equal: the ties must be broken alike."""
    x, y = planted(400, 60, 8, distance=0.3)
    files = write_cell(tmp_path, x, y, names(8))
    rows, about, predictions, _ = fit(tmp_path, files, SvmSettings(t=[1], estimator="hinge_ovo"))
    held = files.fold_of < 0
    train = ~held & (files.fold_of != 0)
    scaler = StandardScaler().fit(x[train].astype(np.float64))
    test = scaler.transform(x[held].astype(np.float64))
    model = SVC(C=rows[0]["C"], **about["estimator_parameters"])
    model.fit(scaler.transform(x[train].astype(np.float64)), y[train])
    ours = predictions.filter(np.array(predictions["fold"]) == 0)["predicted"].to_pylist()
    assert model.predict(test).tolist() == ours
    assert model.set_params(break_ties=False).predict(test).tolist() != ours


def test_default_fits_and_scores_need_no_scikit_learn():
    """Its import takes longer than the fits of a small cell."""
    script = """
import sys
import numpy as np
from discern.analysis.svm.fitting import hold_out_scores
from discern.analysis.svm.fold import Part, fit_fold
from discern.config import SvmSettings
part = Part(np.random.default_rng(0).normal(size=(30, 5)).astype("float32"), np.arange(30) % 3)
for estimator in ("squared_hinge_ovr", "hinge_ovo"):
    fits = fit_fold(part, part, ("a", "b", "c"), SvmSettings(t=[1], estimator=estimator))
    hold_out_scores(part.labels, fits[0].classifier.decision(part.features), None)
    print("sklearn" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("kind", ["plain", "constant", "huge", "far", "tiny"])
def test_standardisation_is_that_of_scikit_learn_to_the_last_bit(kind):
    rng = np.random.default_rng(4)
    rows = np.ones((87, 41))
    features = rows[:, :40]
    features[:] = rng.normal(size=(87, 40)).astype(np.float32)
    if kind == "constant":
        features[:, ::3] = np.float32([0, 7.3, 1e-30, -1e8, 1 / 3, 5e7, 2.7])[np.arange(14) % 7]
    factor = {"huge": 1e8, "tiny": 1e-12}.get(kind, 1)
    features *= factor
    features += 1e7 if kind == "far" else 0
    features[:] = features.astype(np.float32)
    scaler = StandardScaler().fit(features)
    mean, scale = standardisation(features)
    np.testing.assert_array_equal(mean, scaler.mean_)
    np.testing.assert_array_equal(scale, scaler.scale_)


def test_positive_class_of_binary_sets(tmp_path):
    x, y = planted(120, 8, 2, distance=0.8)
    files = write_cell(tmp_path, x, y, ("sick", "well"))
    rows, about, predictions, _ = fit(tmp_path, files, positive_class="sick")
    fold = predictions.filter(np.array(predictions["fold"]) == 0).to_pydict()
    assert rows[0]["positive_f1"] == pytest.approx(f1_score(fold["true"], fold["predicted"], pos_label=0))
    margin = np.array(fold["decision"])[:, 0]
    assert rows[0]["auroc"] == pytest.approx(roc_auc_score(np.array(fold["true"]) == 0, margin))
    assert about["positive_class"] == "sick"
    with pytest.raises(DiscernError, match=r"positive class 'ill'[\s\S]*allowed: sick, well"):
        fit(tmp_path, files, positive_class="ill")
