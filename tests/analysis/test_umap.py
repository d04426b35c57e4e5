import warnings

import numpy as np
import pytest
from planted_cells import planted, write_cell

from discern.analysis import knn
from discern.analysis.umap.compiled import load_umap
from discern.analysis.umap.embedding import embed_cell, embed_grid
from discern.config import UmapSettings
from discern.contracts import UMAP, read_table
from discern.errors import DiscernError

ONE = UmapSettings(n_neighbors=[8], min_dist=[0.1])
ENGINES = ["umap-learn", "fused"]


@pytest.mark.parametrize("shape", ["connected", "apart", "many parts"])
def test_maps_are_umap_learns_bit_for_bit(shape):
    """Given the same neighbours and seed; and every setting of a grid as if it ran alone."""
    x, y = planted(70, 10, {"many parts": 7}.get(shape, 2), distance={"connected": 4}.get(shape, 60))
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


@pytest.mark.parametrize("engine", ENGINES)
def test_duplicates_do_not_break_it(engine):
    x, y = planted(60, 10, 3, distance=4)
    x[10:40] = x[10]  # more equal vectors than neighbours
    maps, quality = embed_grid(x, y, ONE.model_copy(update={"engine": engine}))
    assert np.isfinite(maps[0]).all()
    assert 0 <= quality[0]["continuity"] <= 1


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_and_repetition_change_nothing(engine):
    x, y = planted(90, 20, 3, distance=8)
    settings = UmapSettings(n_neighbors=[5, 8], min_dist=[0.1, 0.5], engine=engine)
    one, again, two = (embed_grid(x, y, settings, threads)[0] for threads in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ["five points", "one dimension", "one class", "huge", "all equal"])
def test_degenerate_features_give_maps_and_numbers(engine, case):
    rng = np.random.default_rng(5)
    n, d = (5 if case == "five points" else 40), (1 if case == "one dimension" else 8)
    x, y = rng.normal(size=(n, d)).astype(np.float32), np.arange(n) % 2
    if case == "one class":
        y[:] = 0
    if case == "huge":
        x *= np.float32(1e30)
    if case == "all equal":
        x[:] = x[0]
    maps, quality = embed_grid(x, y, ONE.model_copy(update={"engine": engine}))
    assert np.isfinite(maps[0]).all()
    assert all(0 <= quality[0][name] <= 1 for name in ("trustworthiness", "continuity", "neighbour_purity"))
    if case == "one class":
        assert quality[0]["neighbour_purity"] == 1


def test_approximate_neighbours_above_the_limit_are_recorded(tmp_path):
    x, y = planted(90, 20, 3, distance=8)
    files = write_cell(tmp_path, x, y, "abc")
    settings = ONE.model_copy(update={"exact_neighbors_up_to": 89, "quality_sample": 40})
    embed_cell(files.features, files.manifest, settings, tmp_path / "out")
    about = read_table(UMAP, tmp_path / "out")[1]
    assert (about["neighbours"], about["engine"], about["quality_points"]) == (
        "pynndescent",
        "umap-learn",
        40,
    )
    assert about["quality"][0]["neighbour_purity"] > 0.9


@pytest.mark.parametrize("engine", ENGINES)
def test_zero_vector_and_tiny_sets_are_named(tmp_path, engine):
    settings = ONE.model_copy(update={"engine": engine})
    x, y = planted(30, 10, 3, distance=4)
    x[7] = 0
    files = write_cell(tmp_path, x, y, "abc")
    with pytest.raises(DiscernError, match="image 'image_0007' is zero"):
        embed_cell(files.features, files.manifest, settings, tmp_path / "out")
    files = write_cell(tmp_path, x[:4], y[:4], "abc")
    with pytest.raises(DiscernError, match="4 images are too few"):
        embed_cell(files.features, files.manifest, settings, tmp_path / "out")
    files = write_cell(tmp_path, x[:5], y[:5], "abc")
    embed_cell(files.features, files.manifest, settings, tmp_path / "out")
