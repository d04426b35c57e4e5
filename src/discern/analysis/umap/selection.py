"""Compiled loops: the k nearest of a block of similarities, and the ranks of given neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator]
def _dot(x: Any, y: Any) -> float:
    total = 0.0
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _shortlist(similar: Any, itself: int, k: int, slack: float, places: Any) -> int:
    """Write the columns within ``slack`` of the k-th largest, in order, into places; return their number.

    One pass: what beats the limit is kept, and the limit rises each time the store is full.
    """
    limit, kept = np.float32(-np.inf), 0
    room = 4 * k + 64
    for column in range(len(similar)):
        if similar[column] >= limit and column != itself:
            places[kept] = column
            kept += 1
            if kept >= room:
                limit = np.partition(similar[places[:kept]], kept - k)[kept - k] - slack
                kept = _compress(similar, limit, places, kept)
                room = max(room, 2 * kept)  # many may tie
    if kept > k:
        limit = np.partition(similar[places[:kept]], kept - k)[kept - k] - slack
        kept = _compress(similar, limit, places, kept)
    return kept


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _compress(similar: Any, limit: float, places: Any, kept: int) -> int:
    left = 0
    for i in range(kept):
        if similar[places[i]] >= limit:
            places[left] = places[i]
            left += 1
    return left


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def decide(similar: Any, first: int, unit: Any, slack: float, indices: Any, distances: Any) -> None:
    """Fill indices and distances (rows, k) from similarities (rows, N) float32 and unit (N, d) float64.

    ``slack``: twice the largest error of a similarity. The point itself comes first, then by distance
    rounded to 12 digits, then by index.
    """
    k = indices.shape[1] - 1
    places = np.empty(similar.shape[1] + 1, np.int64)
    for row in range(len(similar)):
        point = first + row
        indices[row, 0], distances[row, 0] = point, 0
        if k == 0:
            continue
        kept = _shortlist(similar[row], point, k, slack, places)
        exact = np.empty(kept)
        for i in range(kept):
            exact[i] = max(np.rint((1 - _dot(unit[point], unit[places[i]])) * 1e12) / 1e12, 0.0)
        order = np.argsort(exact, kind="mergesort")
        for i in range(k):
            indices[row, i + 1], distances[row, i + 1] = places[order[i]], exact[order[i]]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def beyond(distances: Any, itself: int, neighbours: Any) -> float:
    """By how much the ranks of neighbours (k,) among distances (N,) exceed k, summed over those beyond it.

    The rank of a point is the number of others that are nearer, or as near with a lower index, plus one.
    """
    total, k = 0.0, len(neighbours)
    for place in neighbours:
        limit = distances[place]
        before = 0
        for other in range(place):
            before += distances[other] <= limit
        for other in range(place, len(distances)):
            before += distances[other] < limit
        # The point itself counts once if it is among those before.
        own = distances[itself] < limit or (distances[itself] == limit and itself < place)
        total += max(before - own + 1 - k, 0)
    return total


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def trust_penalties(block: Any, points: Any, neighbours: Any, penalties: Any) -> None:
    """Add to penalties (maps,) those of a block of feature distances (rows, N) of the points (rows,).

    neighbours: (maps, rows, k) nearest in each map.
    """
    for row in range(len(block)):
        for place in range(len(neighbours)):
            penalties[place] += beyond(block[row], points[row], neighbours[place, row])


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def continuity_penalty(x: Any, y: Any, points: Any, neighbours: Any) -> float:
    """Penalty of one map x, y (N,) for the points (rows,) and their neighbours (rows, k) in the features."""
    total = 0.0
    squares = np.empty(len(x), x.dtype)
    for row in range(len(points)):
        point = points[row]
        for other in range(len(x)):
            squares[other] = (x[other] - x[point]) ** 2 + (y[other] - y[point]) ** 2
        total += beyond(squares, point, neighbours[row])
    return total
