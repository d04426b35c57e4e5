import numpy as np
import pytest
from planted_cells import planted
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from discern.analysis.svm.estimator import SquaredHingeSVC


@parametrize_with_checks([SquaredHingeSVC()])
def test_estimator_keeps_scikit_learns_rules(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("n", "d", "k"), [(60, 100, 2), (60, 100, 3), (300, 20, 2), (300, 20, 4)])
def test_it_is_linear_svc_run_to_the_end(n, d, k):
    x, y = planted(n + 100, d, k, distance=1)
    x = StandardScaler().fit_transform(x)
    labels = np.array(["w", "a", "r", "m"])[y]
    ours = SquaredHingeSVC(C=0.5).fit(x[:n], labels[:n])
    theirs = LinearSVC(C=0.5, tol=1e-8, max_iter=100_000, dual=n <= d).fit(x[:n], labels[:n])
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    assert ours.coef_.shape == theirs.coef_.shape
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4 * scale)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-4 * scale)
    np.testing.assert_array_equal(ours.predict(x[n:]), theirs.predict(x[n:]))
    assert ours.decision_function(x[n:]).shape == theirs.decision_function(x[n:]).shape
    assert ours.relative_gap_ <= 1e-9
    assert 0 < ours.n_iter_ < 50


def test_it_works_in_pipelines_and_clones():
    x, y = planted(120, 10, 3, distance=3)
    model = make_pipeline(StandardScaler(), SquaredHingeSVC(C=0.1))
    assert cross_val_score(clone(model), x, y).mean() > 0.8
    assert clone(SquaredHingeSVC(C=3, tol=1e-4)).get_params() == {"C": 3, "tol": 1e-4, "max_iter": 200}


def test_too_few_steps_warn_and_wrong_c_is_refused():
    x, y = planted(40, 100, 2, distance=0.1)
    with pytest.warns(ConvergenceWarning, match="relative gap"):
        SquaredHingeSVC(C=100, max_iter=1).fit(x, y)
    with pytest.raises(ValueError, match="C = -1"):
        SquaredHingeSVC(C=-1).fit(x, y)
