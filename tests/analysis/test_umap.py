import warnings

import numpy as np
import pytest
from planted_cells import planted, write_cell
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.metrics.pairwise import cosine_distances

from discern.analysis import knn
from discern.analysis.umap.embedding import embed_cell, embed_grid, load_umap
from discern.config import UmapSettings
from discern.contracts import UMAP, read_table
from discern.errors import DiscernError

ONE = UmapSettings(n_neighbors=[8], min_dist=[0.1])


def test_neighbours_are_exact_whatever_the_blocks(monkeypatch):
    x, _ = planted(90, 12, 3, distance=3)
    truth = cosine_distances(x.astype(np.float64))
    np.fill_diagonal(truth, -1)
    for entries in (200, 10_000_000):
        monkeypatch.setattr(knn, "BLOCK_ENTRIES", entries)
        indices, distances = knn.nearest(knn.unit_vectors(x), 10)
        np.testing.assert_array_equal(indices, np.argsort(truth, axis=1)[:, :10])
        expected = np.maximum(np.take_along_axis(truth, indices, 1), 0)
        np.testing.assert_allclose(distances, expected, atol=1e-7)


def test_ties_go_to_the_lower_index_and_a_point_is_its_own_nearest():
    x = np.array([[1.0, 0], [0, 1], [2, 0], [3, 0], [0, 5], [1, 1]])
    indices, distances = knn.nearest(knn.unit_vectors(x), 3)
    assert indices[:5].tolist() == [[0, 2, 3], [1, 4, 5], [2, 0, 3], [3, 0, 2], [4, 1, 5]]
    assert distances[0].tolist() == [0, 0, 0]


def test_trustworthiness_equals_scikit_learn(monkeypatch):
    monkeypatch.setattr(knn, "BLOCK_ENTRIES", 1000)
    x, _ = planted(80, 12, 3, distance=3)
    good, bad = x[:, :2], np.random.default_rng(0).normal(size=(80, 2))
    neighbours = [np.argsort(np.linalg.norm(m[:, None] - m, axis=2), axis=1)[:, 1:8] for m in (good, bad)]
    ours = knn.trustworthiness(knn.unit_vectors(x), neighbours)
    theirs = [sklearn_trustworthiness(x, m, n_neighbors=7, metric="cosine") for m in (good, bad)]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_maps_are_umap_learns_bit_for_bit():
    """Given the same neighbours and seed; and every setting of a grid as if it ran alone."""
    x, y = planted(70, 10, 2, distance=4)
    maps, quality = embed_grid(x, y, UmapSettings(n_neighbors=[5, 12], min_dist=[0.0, 0.5], seed=3))
    indices, distances = knn.nearest(knn.unit_vectors(x), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = load_umap().UMAP(
            n_neighbors=5, min_dist=0.5, metric="cosine", random_state=3, n_jobs=1,
            precomputed_knn=(indices, distances), force_approximation_algorithm=True,
        )  # fmt: skip
        np.testing.assert_array_equal(maps[1], alone.fit_transform(x))
    assert [(q["n_neighbors"], q["min_dist"]) for q in quality] == [(5, 0.0), (5, 0.5), (12, 0.0), (12, 0.5)]


def test_neighbour_graph_is_that_of_umap_learns_own_search():
    x, _ = planted(120, 10, 3, distance=4)
    indices, distances = knn.nearest(knn.unit_vectors(x), 8)
    options = {
        "n_neighbors": 8,
        "metric": "cosine",
        "random_state": 0,
        "n_jobs": 1,
        "transform_mode": "graph",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        umap = load_umap()
        shared = umap.UMAP(
            precomputed_knn=(indices, distances), force_approximation_algorithm=True, **options
        )
        own = umap.UMAP(**options)
        ours, theirs = shared.fit(x).graph_.toarray(), own.fit(x).graph_.toarray()
    np.testing.assert_array_equal(ours > 0, theirs > 0)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_cell_keeps_its_contract_and_separates_planted_classes(tmp_path):
    x, y = planted(90, 20, 3, distance=8)
    files = write_cell(tmp_path, x - x.mean(0), y, "abc")
    settings = UmapSettings(n_neighbors=[8, 500], min_dist=[0.1], quality_neighbors=10)
    for name in ("one", "two"):
        embed_cell(files.features, files.manifest, settings, tmp_path / name)
    table, about = read_table(UMAP, tmp_path / "one")
    assert table.equals(read_table(UMAP, tmp_path / "two")[0])
    assert table.num_rows == 180
    assert table["image_id"].to_pylist() == files.ids * 2
    assert (about["model"], about["dataset"]) == ("toy", "planted")
    near, wide = about["quality"]
    assert (near["n_neighbors_used"], wide["n_neighbors"], wide["n_neighbors_used"]) == (8, 500, 89)
    assert near["neighbour_purity"] > 0.95
    assert near["trustworthiness"] > 0.7


def test_purity_of_shuffled_labels_is_chance():
    x, y = planted(90, 20, 3, distance=8)
    _, quality = embed_grid(x, np.random.default_rng(0).permutation(y), ONE)
    assert 0.2 < quality[0]["neighbour_purity"] < 0.45


def test_duplicates_do_not_break_it():
    x, y = planted(60, 10, 3, distance=4)
    x[10:40] = x[10]  # more equal vectors than neighbours
    maps, _ = embed_grid(x, y, ONE)
    assert np.isfinite(maps[0]).all()


def test_zero_vector_and_tiny_sets_are_named(tmp_path):
    x, y = planted(30, 10, 3, distance=4)
    x[7] = 0
    files = write_cell(tmp_path, x, y, "abc")
    with pytest.raises(DiscernError, match="image 'image_0007' is zero"):
        embed_cell(files.features, files.manifest, ONE, tmp_path / "out")
    files = write_cell(tmp_path, x[:4], y[:4], "abc")
    with pytest.raises(DiscernError, match="4 images are too few"):
        embed_cell(files.features, files.manifest, ONE, tmp_path / "out")
    files = write_cell(tmp_path, x[:5], y[:5], "abc")
    embed_cell(files.features, files.manifest, ONE, tmp_path / "out")
