"""Which 64-bit hashes are connected by steps of a few bits: exact, for hundreds of thousands of them.

Two hashes that differ in at most d bits are equal in at least one of d + 1 bands of bits, so only hashes
with an equal band are compared. Where the bands are so short that this saves nothing, all pairs are.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

BITS = 64
BUFFER = 200_000  # pairs that are kept before they are merged
GATHER = 6  # cost of a pair found through a band, in units of one that is met in passing


def components(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Component of each hash, where hashes within ``distance`` bits are connected: int (N,).

    ``hashes`` uint64 (N,). Memory grows with N, not with the number of pairs.
    """
    unique, inverse = np.unique(hashes, return_inverse=True)
    forest = _Forest(len(unique))
    if distance > 0:
        bands = [_band(unique, i, distance + 1) for i in range(distance + 1)]
        pairs = sum(_pairs(band) for band in bands)
        if GATHER * pairs < len(unique) * (len(unique) - 1) // 2:
            for band in bands:
                _compare_within(unique, band, distance, forest)
        else:
            _compare_all(unique, distance, forest)
    return forest.labels()[inverse]


def diameter(hashes: np.ndarray) -> int:
    """Largest distance in bits between any two of uint64 (N,)."""
    unique = np.unique(hashes)
    shifts = range(1, len(unique))
    return max((int(np.bitwise_count(unique[:-s] ^ unique[s:]).max()) for s in shifts), default=0)


class _Forest:
    """Components that grow as pairs are added; pairs inside one component cost nothing."""

    def __init__(self, n: int):
        self._labels = np.arange(n)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._held = 0
        self.whole = n < 2  # one component is left

    def add(self, left: np.ndarray, right: np.ndarray) -> None:
        """Connect left[i] with right[i]."""
        left, right = self._labels[left], self._labels[right]
        apart = left != right
        if apart.any():
            self._pending.append((left[apart], right[apart]))
            self._held += int(apart.sum())
            if self._held > BUFFER:
                self._merge()

    def labels(self) -> np.ndarray:
        self._merge()
        return self._labels

    def _merge(self) -> None:
        if self._pending:
            left, right = (np.concatenate(side) for side in zip(*self._pending, strict=True))
            n = int(self._labels.max()) + 1
            graph = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(n, n))
            found, merged = connected_components(graph, directed=False)
            self._labels = merged[self._labels]
            self._pending, self._held, self.whole = [], 0, found == 1


def _band(hashes: np.ndarray, index: int, n_bands: int) -> np.ndarray:
    """Every ``n_bands``-th bit from ``index`` on: neighbouring bits of a hash tend to go together."""
    return hashes & np.uint64(sum(1 << bit for bit in range(index, BITS, n_bands)))


def _pairs(band: np.ndarray) -> int:
    counts = np.unique(band, return_counts=True)[1].astype(object)  # exact: the sum may pass 2 ** 63
    return int((counts * (counts - 1) // 2).sum()) if len(counts) else 0


def _compare_within(hashes: np.ndarray, band: np.ndarray, distance: int, forest: _Forest) -> None:
    """Compare hashes with equal bands: in order of the band, each with its next, its second next ..."""
    order = np.argsort(band, kind="stable")
    hashes, band = hashes[order], band[order]
    rows = np.arange(len(hashes) - 1)
    shift = 1
    while len(rows := rows[rows + shift < len(hashes)]):
        rows = rows[band[rows] == band[rows + shift]]
        near = rows[np.bitwise_count(hashes[rows] ^ hashes[rows + shift]) <= distance]
        forest.add(order[near], order[near + shift])
        shift += 1


def _compare_all(hashes: np.ndarray, distance: int, forest: _Forest) -> None:
    n = len(hashes)
    mixed, bits, close = np.empty(n, np.uint64), np.empty(n, np.uint8), np.empty(n, bool)
    for shift in range(1, n):
        m = n - shift
        np.bitwise_xor(hashes[:m], hashes[shift:], out=mixed[:m])
        np.bitwise_count(mixed[:m], out=bits[:m])
        near = np.flatnonzero(np.less_equal(bits[:m], distance, out=close[:m]))
        if len(near):
            forest.add(near, near + shift)
            if forest.whole:
                return
