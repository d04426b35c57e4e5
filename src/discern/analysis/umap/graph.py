"""What all maps of one n_neighbors share: the fuzzy set, the start and the schedule of umap-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from discern.analysis.umap.compiled import load_umap

#: Cosine distance from which umap-learn cuts an edge: opposite vectors.
OPPOSITE = 2.0


class Graph(NamedTuple):
    """Edges head -> tail (E,) int32 with epochs_per_sample (E,) float64; start (N, 2) float32; seeds (3,).

    ``alone`` (N,) bool: points without any edge, which have no place on a map.
    """

    start: np.ndarray
    head: np.ndarray
    tail: np.ndarray
    epochs_per_sample: np.ndarray
    n_epochs: int
    seeds: np.ndarray
    alone: np.ndarray


def build_graph(features: np.ndarray, indices: np.ndarray, distances: np.ndarray, seed: int) -> Graph:
    """Features (N, d), neighbours (N, k) with the point itself first -> what umap-learn's ``fit`` makes.

    By umap-learn's own functions, in its order of random draws, so that every number is equal.
    """
    umap = load_umap().umap_
    import numba

    random = np.random.RandomState(seed)
    cut = distances >= OPPOSITE
    indices, distances = np.where(cut, -1, indices), np.where(cut, np.float32(np.inf), distances)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)  # sums in parallel depend on their number
    try:
        fuzzy, _, _ = umap.fuzzy_simplicial_set(
            features, indices.shape[1], random, "cosine", knn_indices=indices, knn_dists=distances
        )
        alone = np.asarray(fuzzy.sum(axis=1)).ravel() == 0
        edges = fuzzy.tocoo()
        edges.sum_duplicates()
        n_epochs = 500 if len(features) <= 10_000 else 200
        edges.data[edges.data < edges.data.max() / float(n_epochs)] = 0.0
        edges.eliminate_zeros()
        start = umap.spectral_layout(
            features, edges, 2, random, metric=umap.dist.named_distances["cosine"], metric_kwds={}
        )
        start = umap.noisy_scale_coords(start, random, max_coord=10, noise=0.0001)
    finally:
        numba.set_num_threads(threads)
    per_sample = umap.make_epochs_per_sample(edges.data, n_epochs)
    seeds = random.randint(umap.INT32_MIN, umap.INT32_MAX, 3).astype(np.int64)
    low, high = np.min(start, 0), np.max(start, 0)
    start = (10.0 * (start - low) / (high - low)).astype(np.float32, order="C")
    return Graph(start, edges.row, edges.col, per_sample, n_epochs, seeds, alone)


def curves_of(min_dist: list[float]) -> list[tuple[float, float]]:
    """The curve 1 / (1 + a r**2b) of each min_dist as (a, b)."""
    umap = load_umap().umap_
    return [tuple(umap.find_ab_params(1.0, value)) for value in min_dist]


def layouts(graphs: list[Graph], min_dist: list[float], engine: str, threads: int) -> list[np.ndarray]:
    """Maps (N, 2) float32 by graph, then min_dist; points alone are NaN. The same with any ``threads``."""
    curves = curves_of(min_dist)
    jobs: list[Callable[[], list[np.ndarray]]]
    if engine == "fused":
        jobs = [lambda graph=graph: _fused(graph, curves) for graph in graphs]  # type: ignore[misc]
    else:
        jobs = [
            lambda graph=graph, curve=curve: [_single(graph, curve)]  # type: ignore[misc]
            for graph in graphs
            for curve in curves
        ]
    if threads == 1:
        return [found for job in jobs for found in job()]
    with ThreadPoolExecutor(threads) as pool:
        return [found for maps in pool.map(lambda job: job(), jobs) for found in maps]


def _fused(graph: Graph, curves: list[tuple[float, float]]) -> list[np.ndarray]:
    from discern.analysis.umap.fused import move_together

    maps = move_together(*graph[:6], curves=curves)
    for found in maps:
        found[graph.alone] = np.nan
    return maps


def _single(graph: Graph, curve: tuple[float, float]) -> np.ndarray:
    place = graph.start.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_umap().layouts.optimize_layout_euclidean(
            place, place, graph.head, graph.tail, graph.n_epochs, len(place), graph.epochs_per_sample,
            *curve, graph.seeds, move_other=True, tqdm_kwds={"disable": True},
        )  # fmt: skip
    place[graph.alone] = np.nan
    return place
