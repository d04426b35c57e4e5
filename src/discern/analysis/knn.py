"""Nearest neighbours by cosine distance, exact and approximate, in blocks of rows: never N x N in memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from discern.analysis.umap.candidates import Store

#: Entries of one block of distances, about 100 MB with its copies.
BLOCK_ENTRIES = 4_000_000


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Features (N, d) without zero rows -> rows of length 1, float64."""
    wide = features.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def distance_blocks(unit: np.ndarray, rows: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, cosine distances (rows, N) float64); a point's distance to itself is -1.

    Rounded to 12 digits, so that equal vectors are at distance 0 whatever the order of summation.
    ``rows``: numbers of the points whose distances are wanted, all by default; "first" counts these.
    """
    chosen = np.arange(len(unit)) if rows is None else rows
    step = max(1, BLOCK_ENTRIES // len(unit))
    for first in range(0, len(chosen), step):
        part = chosen[first : first + step]
        distances = unit[part] @ unit.T
        np.subtract(1, distances, out=distances)
        np.maximum(np.round(distances, 12, out=distances), 0, out=distances)
        distances[np.arange(len(part)), part] = -1
        yield first, distances


def nearest(unit: np.ndarray, k: int, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N, k) int32 and distances (N, k) float32 of the k nearest, the point itself first.

    Exact: products in float32, half of them because they are symmetric, only rule out points that are
    further than their error bound beyond the k-th, and float64 decides among the rest, rounded as in
    ``distance_blocks``. Ties go to the lower index. Takes 8 N (2 k + 64) bytes beside a copy in float32.
    The same with any number of threads.
    """
    from discern.analysis.umap.compiled import keep_compiled

    keep_compiled()
    from discern.analysis.umap.candidates import collect, decide, in_company

    n = len(unit)
    indices = np.zeros((n, k), dtype=np.int32)
    distances = np.zeros((n, k), dtype=np.float32)
    if k == 1:
        indices[:, 0] = np.arange(n)
        return indices, distances
    # In no order that classes or sources may have: else a point would meet its nearest last.
    visited = np.random.default_rng(0).permutation(n)
    narrow, store = _open_store(unit, visited, k - 1)
    step = max(1, min(256, BLOCK_ENTRIES // n))
    for first in range(0, n, step):
        collect(narrow[first : first + step] @ narrow[first:].T, first, store, k - 1)
    del narrow

    turns = in_company(store)

    def settle(first: int) -> None:
        decide(store, visited, unit, turns[first : first + 1024], indices, distances)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(settle, range(0, n, 1024)))
    crowded = np.sort(visited[store.counts > store.low.shape[1]])
    for first, block in distance_blocks(unit, crowded):
        for point, row in zip(crowded[first : first + len(block)], block, strict=True):
            indices[point], distances[point] = _lowest(row, k)
    return indices, np.maximum(distances, 0)


def _open_store(unit: np.ndarray, visited: np.ndarray, k: int) -> tuple[np.ndarray, Store]:
    """Centred vectors (N, d) float32 in the order visited, and the empty store of their candidates."""
    from discern.analysis.umap.candidates import Store

    n, d = unit.shape
    narrow, half, centre = np.empty((n, d), np.float32), np.empty(n), unit.mean(axis=0)
    for first in range(0, n, 1024):
        part = slice(first, first + 1024)
        centred = unit[visited[part]] - centre
        narrow[part], half[part] = centred, np.einsum("ij,ij->i", centred, centred) / 2
    # Vectors, products and sums rounded to float32, at most 2**-24 each: d + 2 roundings of a product, which
    # is at most the sum of both halves, and fewer than 14 of that sum and of what it is subtracted from.
    error = 1.01 * (d + 16) * 2.0**-24
    room = min(2 * k + 64, n)
    return narrow, Store(
        np.empty((n, room), np.float32),
        np.empty((n, room), np.int32),
        np.zeros(n, np.int64),
        np.full(n, -np.inf, np.float32),
        half.astype(np.float32),
        (half * (1 - error)).astype(np.float32),
        np.float32(2 * error),
        np.float32(2e-12 + d * 2.0**-50),  # ties after rounding to 12 digits, and errors in float64
    )


def _lowest(row: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k lowest of a row and where they are; ties go to the lower index."""
    last = np.partition(row, k - 1)[k - 1]
    below = np.flatnonzero(row < last)
    below = below[np.argsort(row[below], kind="stable")]
    found = np.concatenate([below, np.flatnonzero(row == last)[: k - len(below)]])
    return found, row[found]


def nearest_approximately(features: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by pynndescent (Dong et al. 2011) with umap-learn's choice of trees and iterations."""
    from discern.analysis.umap.compiled import keep_compiled

    keep_compiled()
    from pynndescent import NNDescent

    n = len(features)
    search = NNDescent(
        features,
        metric="cosine",
        n_neighbors=k,
        random_state=np.random.RandomState(seed),
        n_trees=min(64, 5 + round(n**0.5 / 20)),
        n_iters=max(5, round(np.log2(n))),
        max_candidates=60,
        n_jobs=1,
    )
    indices, distances = search.neighbor_graph
    # Among equal vectors the point itself may stand elsewhere, or miss: it is put first.
    itself = indices == np.arange(n)[:, None]
    itself[~itself.any(axis=1), -1] = True
    order = np.argsort(~itself, axis=1, kind="stable")
    indices, distances = np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)
    indices[:, 0], distances[:, 0] = np.arange(n), 0
    return indices.astype(np.int32), np.maximum(distances, 0).astype(np.float32)
