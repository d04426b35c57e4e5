import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.svm import SVC

from discern.analysis.linear import (
    Classifier,
    decision_values,
    load_classifier,
    predicted_labels,
    save_classifiers,
)
from discern.errors import DiscernError


def classifier(k, rows, estimator="squared_hinge_ovr", d=6, seed=0):
    rng = np.random.default_rng(seed)
    names = tuple(f"class_{i}" for i in range(k))
    return Classifier(
        rng.normal(size=d),
        rng.uniform(1, 2, d),
        rng.normal(size=(rows, d)),
        rng.normal(size=rows),
        names,
        estimator,
    )


@pytest.mark.parametrize("k", [3, 4, 7])
def test_pairwise_decisions_equal_scikit_learn(k):
    rng = np.random.default_rng(k)
    x = rng.normal(size=(150, 8)) + 1.5 * rng.normal(size=(k, 8))[np.arange(150) % k]
    model = SVC(kernel="linear", decision_function_shape="ovr").fit(x, np.arange(150) % k)
    ours = decision_values(x @ model.coef_.T + model.intercept_, k, "hinge_ovo")
    np.testing.assert_allclose(ours, model.decision_function(x), rtol=0, atol=1e-9)


def test_three_classes_against_the_rest_are_not_taken_for_pairs():
    values = np.array([[0.5, -2.0, 0.1]])
    np.testing.assert_array_equal(decision_values(values, 3, "squared_hinge_ovr"), values)


@pytest.mark.parametrize("estimator", ["squared_hinge_ovr", "hinge_ovo"])
def test_binary_decision_is_one_function_with_both_signs(estimator):
    model = classifier(2, 1, estimator)
    x = np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)
    f = ((x - model.mean) / model.scale) @ model.coef[0] + model.intercept[0]
    np.testing.assert_allclose(model.decision(x), np.column_stack([-f, f]), rtol=1e-12)
    np.testing.assert_array_equal(predicted_labels(model.decision(x)), f > 0)


def test_file_gives_back_every_fold(tmp_path):
    folds = [classifier(4, 6, "hinge_ovo", seed=s) for s in range(3)]
    path = tmp_path / "classifier.safetensors"
    save_classifiers(path, folds, {"model": "m"})
    for fold, model in enumerate(folds):
        back = load_classifier(path, fold)
        assert (back.classes, back.estimator) == (model.classes, "hinge_ovo")
        for name in ("mean", "scale", "coef", "intercept"):
            np.testing.assert_array_equal(getattr(back, name), getattr(model, name))
    with pytest.raises(DiscernError, match=r"no fold 3\n  allowed: 0, 1, 2"):
        load_classifier(path, 3)


def test_damaged_file_is_named(tmp_path):
    path = tmp_path / "classifier.safetensors"
    save_classifiers(path, [classifier(2, 1)], {})
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DiscernError, match=r"classifier\.safetensors: damaged"):
        load_classifier(path, 0)


def test_a_file_is_the_same_bytes_in_every_process(tmp_path):
    """The library that writes it orders its strings anew in every process."""
    code = (
        "import sys; sys.path.append('tests/analysis')\n"
        "from test_linear import classifier; from discern.analysis.linear import save_classifiers\n"
        "save_classifiers(sys.argv[1], [classifier(4, 4)], {'model': 'm'})"
    )
    files = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for file in files:
        subprocess.run([sys.executable, "-c", code, file], check=True, cwd=Path(__file__).parents[2])
    assert len({file.read_bytes() for file in files}) == 1
    assert load_classifier(files[0], 0).classes == classifier(4, 4).classes
