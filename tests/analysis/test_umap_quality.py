import numpy as np
import pytest
from planted_cells import planted
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances

from discern.analysis import knn
from discern.analysis.umap.quality import continuity, judge, judged_points

K = 7


@pytest.fixture
def case():
    """Features, a good and a bad map."""
    x, y = planted(80, 12, 3, distance=3)
    return x, y, [x[:, :2].copy(), np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)]


def by_definition(distances, judged_by, k):
    """1 - 2 / (n k (2n - 3k - 1)) sum of (rank - k), nearest by ``judged_by``, ranks by ``distances``."""
    n, total = len(distances), 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        rank = {j: r for r, j in enumerate(sorted(others, key=lambda j: distances[i, j]), start=1)}
        nearest = sorted(others, key=lambda j: judged_by[i, j])[:k]
        total += sum(max(rank[j] - k, 0) for j in nearest)
    return 1 - 2 * total / (n * k * (2 * n - 3 * k - 1))


def test_numbers_equal_scikit_learn_and_the_definition(monkeypatch, case):
    monkeypatch.setattr(knn, "BLOCK_ENTRIES", 1000)
    x, y, maps = case
    unit = knn.unit_vectors(x)
    found = judge(unit, y, maps, knn.nearest(unit, K + 1)[0][:, 1:], K, 1000)
    for one, numbers in zip(maps, found, strict=True):
        theirs = sklearn_trustworthiness(x, one, n_neighbors=K, metric="cosine")
        far, near = cosine_distances(x.astype(np.float64)), euclidean_distances(one.astype(np.float64))
        assert numbers["trustworthiness"] == pytest.approx(theirs, abs=1e-12)
        assert numbers["trustworthiness"] == pytest.approx(by_definition(far, near, K), abs=1e-12)
        assert numbers["continuity"] == pytest.approx(by_definition(near, far, K), abs=1e-12)
    assert found[0]["continuity"] > found[1]["continuity"] + 0.1


def test_continuity_is_one_where_the_map_keeps_all_neighbours(case):
    *_, maps = case
    near = np.argsort(euclidean_distances(maps[0].astype(np.float64)), axis=1)[:, 1 : K + 1]
    assert continuity(maps[:1], near, np.arange(80)) == [1.0]


def test_a_sample_judges_near_the_whole_and_always_the_same_points(case):
    x, y, maps = case
    unit = knn.unit_vectors(x)
    near = knn.nearest(unit, K + 1)[0][:, 1:]
    whole, some = (judge(unit, y, maps, near, K, sample)[0] for sample in (80, 60))
    assert whole["trustworthiness"] == pytest.approx(some["trustworthiness"], abs=0.05)
    assert whole["continuity"] != some["continuity"]
    assert whole["neighbour_purity"] == some["neighbour_purity"]
    np.testing.assert_array_equal(judged_points(80, 60), judged_points(80, 60))
    assert len(set(judged_points(80, 60))) == 60
