"""The solver itself: against LinearSVC run to the end, the conditions of the minimum, and hostile inputs."""

import numpy as np
import pytest
from planted_cells import planted
from scipy.optimize import minimize_scalar
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from discern.analysis.svm.path import BLOCK, solve_path
from discern.analysis.svm.primal import Primal, normal_matrix
from discern.analysis.svm.squared_hinge import line_search, relative_gap


def problems(features, labels):
    """Standardised rows with the constant column, and targets."""
    rows = np.column_stack([StandardScaler().fit_transform(features.astype(float)), np.ones(len(features))])
    classes = range(labels.max() + 1) if labels.max() > 1 else [1]
    return rows, np.array([np.where(labels == c, 1.0, -1.0) for c in classes])


def objectives(rows, targets, v, c):
    slack = np.maximum(0, 1 - targets * (v @ rows.T))
    return 0.5 * (v**2).sum(1) + c * (slack**2).sum(1)


def solve(rows, targets, costs, **options):
    return solve_path(rows, targets, costs, **{"tolerance": 1e-9, "max_iter": 200} | options)


EXACT = {"tolerance": 1e-16}  # the steps end where rounding does


def assert_minimum(rows, targets, path, costs):
    """The minimum is where v equals the weighted sum of the rows inside the margin."""
    assert np.isfinite(path.v).all()
    for v, c in zip(path.v, costs, strict=True):
        slack = np.maximum(0, 1 - targets * (v @ rows.T))
        weights = 2 * c * slack * targets
        scale = np.maximum(np.abs(v).max(), np.abs(weights) @ np.abs(rows)).max()
        np.testing.assert_allclose(v, weights @ rows, atol=1e-6 * scale)
    assert path.relative_gap.max() <= 1e-6


# Below, slightly above and far above as many rows as columns; separable and overlapping.
@pytest.mark.parametrize(
    ("n", "d", "k", "distance"),
    [(50, 120, 2, 3), (60, 80, 4, 0.5), (70, 60, 3, 3), (400, 30, 2, 0.3), (500, 40, 5, 1), (300, 12, 3, 8)],
)
def test_objective_is_never_above_that_of_a_converged_linear_svc_and_predictions_are_equal(n, d, k, distance):
    x, y = planted(n + 200, d, k, distance)
    rows, targets = problems(x, y)
    train, rest = slice(0, n), slice(n, None)
    costs = [t * d / n for t in (1, 100)]
    path = solve(rows[train].copy(), targets[:, train], costs)
    for v, c in zip(path.v, costs, strict=True):
        model = LinearSVC(C=c, tol=1e-8, max_iter=200_000, dual=n <= d, random_state=0)
        model.fit(rows[train, :-1], y[train])
        theirs = np.column_stack([model.coef_, model.intercept_])
        least = objectives(rows[train], targets[:, train], theirs, c)
        assert (objectives(rows[train], targets[:, train], v, c) <= least * (1 + 1e-9)).all()
        values = v @ rows[rest].T
        np.testing.assert_array_equal(
            values.argmax(0) if k > 2 else (values[0] > 0), model.predict(rows[rest, :-1])
        )
    assert path.relative_gap.max() <= 1e-9


@pytest.mark.parametrize(("n", "d"), [(600, 40), (60, 90), (150, 100)])
def test_path_ends_where_single_fits_end(n, d):
    x, y = planted(n, d, 3, distance=0.5)
    rows, targets = problems(x, y)
    costs = [0.1, 1, 10, 1000]
    path = solve(rows, targets, costs, **EXACT)
    assert_minimum(rows, targets, path, costs)
    alone = [solve(rows, targets, [c], **EXACT) for c in costs]
    for step, single in enumerate(alone):
        np.testing.assert_allclose(path.v[step], single.v[0], atol=1e-5 * np.abs(single.v).max())
    assert (path.seconds >= 0).all()


def test_classes_solved_together_are_those_solved_alone():
    x, y = planted(900, 25, BLOCK + 3, distance=1)
    rows, targets = problems(x, y)
    together = solve(rows, targets, [0.05, 5])
    for problem in (0, BLOCK - 1, BLOCK, BLOCK + 2):
        alone = solve(rows, targets[[problem]], [0.05, 5])
        np.testing.assert_allclose(together.v[:, problem], alone.v[:, 0], rtol=1e-6, atol=1e-7)


def test_every_way_of_a_newton_step_solves_the_same_system():
    """Rows leave and enter one by one, in masses, and almost all: each way is taken, all agree with dense."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 60))
    system = Primal(rows, np.ones((1, 400)), normal_matrix(rows))._systems[0]
    taken = set()
    for way in ("_by_inner_products", "_by_correction", "_update"):
        real = getattr(system, way)
        setattr(system, way, lambda *a, way=way, real=real: taken.add(way) or real(*a))
    active = rng.random(400) < 0.7
    for change in (0, 1, 1, 3, 0, 200, 2, 250, 5, 5):
        active[rng.choice(400, change, replace=False)] ^= True
        if change == 250:
            active[:380] = False
        right = rng.normal(size=60)
        exact = np.linalg.solve(np.eye(60) / 6 + rows[active].T @ rows[active], right)
        np.testing.assert_allclose(system.solve(active, 3.0, right), exact, rtol=1e-8, atol=1e-10)
    assert taken == {"_by_inner_products", "_by_correction", "_update"}
    np.testing.assert_array_equal(system.solve(np.zeros(400, bool), 3.0, right), 6 * right)


def test_line_search_finds_the_minimum_along_each_direction():
    rng = np.random.default_rng(1)
    rows, targets, v = rng.normal(size=(50, 8)), np.ones((1, 50)), rng.normal(size=(3, 8))
    way = -v * [[1], [0.1], [30]] + 0.1 * rng.normal(size=(3, 8))
    length = line_search((v * way).sum(1), (way**2).sum(1), v @ rows.T, way @ rows.T, 2.0)
    for i in range(3):

        def along(s, i=i):
            return objectives(rows, targets, v[[i]] + s * way[[i]], 2.0)[0]

        best = minimize_scalar(along, bounds=(0, 20), method="bounded", options={"xatol": 1e-10})
        assert along(length[i]) <= best.fun * (1 + 1e-12)


def test_gap_bounds_the_true_distance_from_the_minimum():
    x, y = planted(80, 10, 2, distance=0.5)
    rows, targets = problems(x, y)
    least = solve(rows, targets, [3])
    for size in (1e-4, 1e-2, 1):
        v = least.v[0] + size * np.random.default_rng(1).normal(size=(1, 11))
        best = objectives(rows, targets, least.v[0], 3)
        true_gap = (objectives(rows, targets, v, 3) - best) / objectives(rows, targets, v, 3)
        assert 0 < true_gap <= relative_gap(rows, targets, v, 3)


def hostile(kind, n, d):
    x, y = planted(n, d, 3, distance=1)
    rng = np.random.default_rng(2)
    if kind == "scales":
        x = x * 10.0 ** rng.uniform(-8, 8, d)
    elif kind == "collinear":
        x[:, 1:] = x[:, :1] + 1e-5 * x[:, 1:]
    elif kind == "constant":
        x[:, ::2] = 7.3
    elif kind == "duplicate columns":
        x[:, d // 2 :] = x[:, : d - d // 2]
    elif kind == "duplicate rows":
        x[n // 2 :] = x[: n - n // 2]  # mostly under other labels
    elif kind == "single sample":
        y[y == 2] = 1
        y[5] = 2
    elif kind == "missing class":
        y[y == 1] = 2
    return x, y


KINDS = [
    "scales",
    "collinear",
    "constant",
    "duplicate columns",
    "duplicate rows",
    "single sample",
    "missing class",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d"), [(60, 100), (110, 100), (700, 30)])
def test_hostile_features_reach_the_minimum(kind, n, d):
    x, y = hostile(kind, n, d)
    rows, targets = problems(x, y)
    costs = [t * d / n for t in (1, 10, 100, 1000, 10000)]
    assert_minimum(rows, targets, solve(rows, targets, costs, **EXACT), costs)


@pytest.mark.parametrize(("n", "d"), [(2, 1), (2, 5), (3, 1), (50, 1)])
def test_smallest_shapes(n, d):
    x, y = np.random.default_rng(0).normal(size=(n, d)), np.arange(n) % 2
    rows, targets = problems(x, y)
    costs = [d / n, 1e4 * d / n]
    assert_minimum(rows, targets, solve(rows, targets, costs, **EXACT), costs)


def test_unstandardised_rows_of_all_scales_end_without_error():
    """Beyond what float64 resolves the gap says so; the solver neither loops nor breaks."""
    x, y = planted(200, 20, 2, distance=1)
    rows = np.column_stack([x * 10.0 ** np.linspace(-8, 8, 20), np.ones(200)])
    path = solve(rows, np.where(y == 1, 1.0, -1.0)[None], [1e-3, 1e6])
    assert np.isfinite(path.v).all()
    assert (path.n_iter < 200).all()
