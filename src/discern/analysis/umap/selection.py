"""Compiled loops: the ranks of given neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


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
