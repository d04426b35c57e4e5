"""Nearest neighbours by cosine distance, exact and approximate, in blocks of rows: never N x N in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

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


def nearest(unit: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N, k) int32 and distances (N, k) float32 of the k nearest, the point itself first.

    Exact: products in float32 only rule out points that are further than their error bound beyond the
    k-th, and float64 decides among the rest, rounded as in ``distance_blocks``. Ties go to the lower index.
    """
    from discern.analysis.umap.compiled import keep_compiled

    keep_compiled()
    from discern.analysis.umap.selection import decide

    n, d = unit.shape
    narrow = unit.astype(np.float32)
    # Vectors, products, sums and the limit rounded to float32: d + 4 roundings of at most 2**-24 each.
    error = 1.01 * (d + 4) * 2.0**-24
    indices = np.empty((n, k), dtype=np.int32)
    distances = np.empty((n, k), dtype=np.float32)
    step = max(1, BLOCK_ENTRIES // n)
    for first in range(0, n, step):
        similar = narrow[first : first + step] @ narrow.T
        last = first + len(similar)
        decide(similar, first, unit, np.float32(2 * error), indices[first:last], distances[first:last])
    return indices, distances


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
