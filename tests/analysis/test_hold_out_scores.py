import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from discern.analysis import metrics
from discern.analysis.svm.fitting import hold_out_scores


@pytest.mark.parametrize("levels", [2, 5, 40, None])
def test_auroc_is_that_of_scikit_learn_with_ties(levels):
    rng = np.random.default_rng(levels)
    for n in (2, 3, 17, 400):
        for share in (0.1, 0.5, 0.9):
            positive = rng.random(n) < share
            positive[:2] = True, False
            values = rng.normal(size=n) + positive if levels is None else rng.integers(0, levels, n) / 7
            assert metrics.auroc(positive, values) == pytest.approx(
                roc_auc_score(positive, values), rel=0, abs=1e-15
            )
    assert np.isnan(metrics.auroc(np.ones(3, dtype=bool), np.arange(3.0)))


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true, decision = rng.integers(0, 4, 80), rng.normal(size=(80, 4))
    predicted, ours = decision.argmax(axis=1), hold_out_scores(true, decision, None)
    assert ours["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert ours["class_f1"] == pytest.approx(f1_score(true, predicted, average=None))
    assert ours["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))
    columns = [roc_auc_score(true == c, decision[:, c]) for c in range(4)]
    assert ours["auroc"] == pytest.approx(np.mean(columns))


def test_macro_f1_leaves_out_classes_neither_present_nor_predicted():
    true, decision = np.array([0, 0, 2]), np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]])
    ours = hold_out_scores(true, decision, None)
    assert ours["macro_f1"] == pytest.approx(f1_score(true, decision.argmax(1), average="macro"))
    assert np.isnan(ours["class_f1"][1])
