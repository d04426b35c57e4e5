import numpy as np
import pytest
from planted_cells import planted
from sklearn.metrics.pairwise import cosine_distances

from discern.analysis import knn


@pytest.mark.parametrize("entries", [200, 10_000_000])
def test_neighbours_are_exact_whatever_the_blocks(monkeypatch, entries):
    x, _ = planted(90, 12, 3, distance=3)
    truth = cosine_distances(x.astype(np.float64))
    np.fill_diagonal(truth, -1)
    monkeypatch.setattr(knn, "BLOCK_ENTRIES", entries)
    indices, distances = knn.nearest(knn.unit_vectors(x), 10)
    np.testing.assert_array_equal(indices, np.argsort(truth, axis=1)[:, :10])
    expected = np.maximum(np.take_along_axis(truth, indices, 1), 0)
    np.testing.assert_allclose(distances, expected, atol=1e-7)


@pytest.mark.parametrize("case", ["close", "equal", "alike in float32", "wide"])
def test_neighbours_equal_those_of_a_float64_sort(case):
    """To the twelfth digit, at which distances tie: two orders of summation may round there differently."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(700, 1500 if case == "wide" else 24))
    if case == "close":  # closer to each other than float32 products can tell
        x = rng.normal(size=24) + 1e-4 * x
    if case == "equal":
        x = x[rng.integers(0, 40, 700)]
    if case == "alike in float32":
        x[100:400] = x[100] + 1e-9 * x[100:400]
    unit = knn.unit_vectors(x)
    every = np.concatenate([block for _, block in knn.distance_blocks(unit)])
    order = np.argsort(every, axis=1, kind="stable")
    for k in (1, 2, 15, 700):
        indices, distances = knn.nearest(unit, k)
        found = np.take_along_axis(every, indices, 1)
        truth = np.take_along_axis(every, order[:, :k], 1)
        np.testing.assert_allclose(found, truth, rtol=0, atol=1.1e-12)
        np.testing.assert_allclose(distances, np.maximum(truth, 0), rtol=1e-6, atol=1.1e-12)
        assert np.mean(indices == order[:, :k]) > (0.999 if case in ("equal", "wide") else 0.9)


@pytest.mark.parametrize(
    "case", ["many equal", "all equal", "two points", "outliers", "one dimension", "opposite", "scales"]
)
def test_what_float32_cannot_tell_apart_is_searched_otherwise_and_threads_change_nothing(case):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(900, 1 if case == "one dimension" else 40))
    if case == "many equal":  # more than a point has room for, and each has others beside them
        x[rng.permutation(900)[:300]] = x[0]
    if case == "all equal":
        x[:] = x[0]
    if case == "two points":
        x = x[rng.integers(0, 2, 900)]
    if case == "outliers":
        x[10:] = 1 + 1e-5 * x[10:]
    if case == "opposite":
        x[450:] = -x[:450]
    if case == "scales":
        x *= 10.0 ** rng.uniform(-20, 20, size=(900, 1))
    unit = knn.unit_vectors(x)
    every = np.concatenate([block for _, block in knn.distance_blocks(unit)])
    order = np.argsort(every, axis=1, kind="stable")[:, :12]
    truth = np.take_along_axis(every, order, 1)
    indices, distances = knn.nearest(unit, 12)
    np.testing.assert_allclose(np.take_along_axis(every, indices, 1), truth, rtol=0, atol=1.1e-12)
    np.testing.assert_allclose(distances, np.maximum(truth, 0), rtol=1e-6, atol=1.1e-12)
    if case in ("all equal", "two points", "one dimension"):
        np.testing.assert_array_equal(indices, order)
    for threads in (2, 3):
        again = knn.nearest(unit, 12, threads)
        np.testing.assert_array_equal(again[0], indices)
        np.testing.assert_array_equal(again[1], distances)


def test_close_features_are_told_apart_without_the_slower_search(monkeypatch):
    """Of networks with random weights: all cosines near 1, where plain float32 products would all tie."""
    rng = np.random.default_rng(3)
    unit = knn.unit_vectors(1 + 3e-4 * rng.normal(size=(800, 256)))
    every = np.concatenate([block for _, block in knn.distance_blocks(unit)])

    def refused(unit, rows):
        assert len(rows) == 0
        return iter(())

    monkeypatch.setattr(knn, "distance_blocks", refused)
    indices, _ = knn.nearest(unit, 10)
    found = np.take_along_axis(every, indices, 1)
    np.testing.assert_allclose(found, np.sort(every, axis=1)[:, :10], rtol=0, atol=1.1e-12)


def test_ties_go_to_the_lower_index_and_a_point_is_its_own_nearest():
    x = np.array([[1.0, 0], [0, 1], [2, 0], [3, 0], [0, 5], [1, 1]])
    indices, distances = knn.nearest(knn.unit_vectors(x), 3)
    assert indices[:5].tolist() == [[0, 2, 3], [1, 4, 5], [2, 0, 3], [3, 0, 2], [4, 1, 5]]
    assert distances[0].tolist() == [0, 0, 0]


def test_approximate_neighbours_are_nearly_the_exact_ones():
    x, _ = planted(600, 20, 3, distance=3)
    x[5] = x[6]
    exact, _ = knn.nearest(knn.unit_vectors(x), 10)
    indices, distances = knn.nearest_approximately(x, 10, 0)
    assert (indices[:, 0] == np.arange(600)).all()
    assert (distances[:, 0] == 0).all()
    assert (np.diff(distances, axis=1) >= 0).all()
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact, indices, strict=True)]
    assert np.mean(shared) > 0.95
