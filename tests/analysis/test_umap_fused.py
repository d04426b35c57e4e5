import numpy as np
import pytest
from planted_cells import planted
from pydantic import ValidationError

from discern.analysis import knn
from discern.analysis.umap.compiled import load_umap
from discern.analysis.umap.embedding import embed_grid
from discern.analysis.umap.graph import build_graph, curves_of
from discern.config import UmapSettings

MIN_DIST = [0.0, 0.1, 0.25, 0.5, 0.8]


@pytest.fixture(scope="module")
def graph():
    x, _ = planted(200, 16, 4, distance=3)
    return build_graph(x, *knn.nearest(knn.unit_vectors(x), 10), 0)


def moved(graph, curves, n_epochs=None, **options):
    from discern.analysis.umap.fused import move_together

    return move_together(*graph[:4], n_epochs or graph.n_epochs, graph.seeds, curves, **options)


@pytest.mark.parametrize("n_epochs", [2, 3, 30])
def test_one_edge_at_a_time_is_umap_learns_layout_but_for_rounding(graph, n_epochs):
    """With a small learning rate, because with the usual one any rounding grows tenfold in a few steps."""
    layouts = load_umap().layouts
    curves = curves_of(MIN_DIST)
    ours = moved(graph, curves, n_epochs, together=1, rate=0.01)
    for map_, curve in zip(ours, curves, strict=True):
        theirs = graph.start.copy()
        layouts.optimize_layout_euclidean(
            theirs, theirs, graph.head, graph.tail, n_epochs, len(theirs), graph.epochs_per_sample, *curve,
            graph.seeds, initial_alpha=0.01, move_other=True,
        )  # fmt: skip
        assert np.abs(theirs - graph.start).max() > 0.01
        np.testing.assert_allclose(map_, theirs, atol=2e-3)
        assert np.median(np.abs(map_ - theirs)) < 1e-5


def test_power_is_exact_to_five_digits():
    from numba import njit

    from discern.analysis.umap.lanes import CELLS, gather, power, scatter_add, tile

    @njit
    def raised(values, exponents, rows, out):
        x = power(gather(values, rows, 0, 0), tile(exponents, 0))
        scatter_add(out, rows, 0, 0, x)

    rng = np.random.default_rng(0)
    exponents = rng.uniform(0.7, 2, size=(1, CELLS)).astype(np.float32)
    for _ in range(50):
        values = np.exp(rng.uniform(-18, 9, size=(4, 2, CELLS))).astype(np.float32)
        out = np.zeros_like(values)
        raised(values, exponents * np.float32(2**23), np.arange(4, dtype=np.int32), out)
        truth = values[:, 0].astype(float) ** exponents.astype(float)
        np.testing.assert_allclose(out[:, 0], truth, rtol=1e-5)


def test_a_map_does_not_depend_on_its_company(graph):
    """More settings than one pass holds; each as if alone, up to nothing."""
    curves = curves_of([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    together = moved(graph, curves, 20)
    assert len(together) == 10
    for place in (0, 7, 9):
        np.testing.assert_array_equal(together[place], moved(graph, curves[place : place + 1], 20)[0])


def test_edges_take_turns_and_keep_their_order_within_a_head(graph):
    from discern.analysis.umap.fused import taking_turns

    order = taking_turns(graph.head)
    assert sorted(order) == list(range(len(order)))
    assert np.mean(np.diff(graph.head[order]) == 0) < 0.02 < np.mean(np.diff(graph.head) == 0)
    for head in (0, 77):
        assert (np.diff(order[graph.head[order] == head]) > 0).all()


def test_quality_is_that_of_umap_learn():
    x, y = planted(400, 20, 4, distance=3)
    found = {}
    for engine in ("umap-learn", "fused"):
        settings = UmapSettings(n_neighbors=[15], min_dist=[0.0, 0.25, 0.8], engine=engine)
        found[engine] = embed_grid(x, y, settings)[1]
    for ours, theirs in zip(found["fused"], found["umap-learn"], strict=True):
        for number in ("trustworthiness", "continuity", "neighbour_purity"):
            assert ours[number] == pytest.approx(theirs[number], abs=0.02), number


def test_unknown_engine_is_refused_with_those_that_are():
    with pytest.raises(ValidationError, match="'umap-learn' or 'fused'"):
        UmapSettings(engine="cuml")
