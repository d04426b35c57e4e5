"""Exact cosine neighbours and the trustworthiness of maps, in blocks of rows. NumPy only.

Memory is a block of distances, not N x N, and one sorting of all distances judges every map of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Entries of one block of distances, about 100 MB with its copies.
BLOCK_ENTRIES = 4_000_000


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Features (N, d) without zero rows -> rows of length 1, float64."""
    wide = features.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def distance_blocks(unit: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, cosine distances (rows, N) float64); a point's distance to itself is -1.

    Rounded to 12 digits, so that equal vectors are at distance 0 whatever the order of summation.
    """
    step = max(1, BLOCK_ENTRIES // len(unit))
    for first in range(0, len(unit), step):
        rows = unit[first : first + step]
        distances = np.maximum(np.round(1 - rows @ unit.T, 12), 0)
        distances[np.arange(len(rows)), np.arange(first, first + len(rows))] = -1
        yield first, distances


def nearest(unit: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N, k) int32 and distances (N, k) float32 of the k nearest, the point itself first.

    Ties go to the lower index.
    """
    indices = np.empty((len(unit), k), dtype=np.int32)
    distances = np.empty((len(unit), k), dtype=np.float32)
    for first, block in distance_blocks(unit):
        limits = np.partition(block, k - 1, axis=1)[:, k - 1]
        for row, (values, limit) in enumerate(zip(block, limits, strict=True), start=first):
            near = np.flatnonzero(values <= limit)
            indices[row] = near[np.argsort(values[near], kind="stable")[:k]]
            distances[row] = np.maximum(values[indices[row]], 0)
    return indices, distances


def trustworthiness(unit: np.ndarray, neighbours: list[np.ndarray]) -> list[float]:
    """Venna & Kaski 2001 for several maps at once; equals scikit-learn's with metric="cosine".

    unit: (N, d) rows of length 1; neighbours: per map the indices (N, k) of each point's k nearest in
    the map, itself left out, k < N / 2.
    """
    n, k = neighbours[0].shape
    penalties = np.zeros(len(neighbours))
    for first, block in distance_blocks(unit):
        order = np.argsort(block, axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(n)[None, :], axis=1)  # 0 is the point itself
        for place, found in enumerate(neighbours):
            beyond = np.take_along_axis(ranks, found[first : first + len(block)], axis=1) - k
            penalties[place] += beyond[beyond > 0].sum()
    return (1 - penalties * 2 / (n * k * (2 * n - 3 * k - 1))).tolist()
