"""Compiled loops of the exact neighbour search: candidates from half of all products, then a decision.

Between centred unit vectors v, the product less half of both squared lengths is the negative cosine distance.
In float32 it is known up to a bound that shrinks with the lengths, so close vectors are still told apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

#: Columns that pass at a time: the stores of these points and of a block's rows stay in the cache.
COLUMNS = 256
#: Points that can be numbered: a distance of up to 2 in units of 1e-12 leaves 22 of 63 bits.
MOST = 1 << 22


class Store(NamedTuple):
    """Candidates of N points, at most ``room`` each, and what bounds them; points are numbered as visited.

    ``low`` (N, room) float32: smallest negative distance it can be; ``places`` (N, room) int32: of which
    point; ``counts`` (N,) int64, above room where more than that may tie; ``limits`` (N,) float32: what the
    largest it can be has to reach. ``half`` (N,) float32: half the squared length; ``least_half``: less its
    error. A distance is uncertain by ``share`` of the sum of both halves, plus ``margin``.
    """

    low: np.ndarray
    places: np.ndarray
    counts: np.ndarray
    limits: np.ndarray
    half: np.ndarray
    least_half: np.ndarray
    share: np.float32
    margin: np.float32


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _reach(values: Any, limit: Any) -> int:
    found = 0
    for i in range(len(values)):
        found += values[i] >= limit
    return found


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})  # type: ignore[untyped-decorator]
def _ends(values: Any) -> Any:
    low = high = values[0]
    for i in range(len(values)):
        low, high = min(low, values[i]), max(high, values[i])
    return low, high


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _prune(low: Any, places: Any, k: int, spare: int, doubt: float, half: Any, share: float) -> Any:
    """Move what may be among the k nearest to the front; return its number and the limit it reaches.

    ``doubt``: what the point itself adds to the uncertainty. The limit is found by halving, which only
    counts: it lies between the (k + spare)-th and the k-th of ``low``.
    """
    limit, above = _ends(low)
    while True:
        middle = np.float32(0.5) * (limit + above)
        if middle <= limit or middle >= above:
            break
        found = _reach(low, middle)
        if found < k:
            above = middle
        else:
            limit = middle
            if found <= k + spare:
                break
    kept = 0
    for i in range(len(low)):  # no branch: it would be a coin toss
        value, place = low[i], places[i]
        low[kept], places[kept] = value, place
        kept += value + (doubt + share * half[place]) >= limit
    return kept, limit


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def collect(products: Any, first: int, store: Any, k: int) -> None:  # noqa: C901 - a call costs more
    """Products (rows, N - first) float32 of the points from ``first`` with those from ``first`` on.

    A pair is offered to both of its points; those before ``first`` have met these rows already.
    """
    # Local names, and no call for each candidate: both cost more than what is done with it.
    low, places, counts, half, least = store.low, store.places, store.counts, store.half, store.least_half
    limits, share, margin, room = store.limits, store.share, store.margin, store.low.shape[1]
    hits = np.zeros(COLUMNS, np.uint8)
    words = hits.view(np.uint64)
    for start in range(0, products.shape[1], COLUMNS):
        stop = min(start + COLUMNS, products.shape[1])
        halves, others = least[first + start : first + stop], limits[first + start : first + stop]
        for row in range(min(len(products), stop)):
            mine, limit, block = least[first + row], limits[first + row], products[row, start:stop]
            hits[len(block) :] = 0
            for i in range(len(block)):
                value = block[i] - (mine + halves[i])
                hits[i] = (value >= limit) | (value >= others[i])
            hits[: max(row + 1 - start, 0)] = 0  # the point itself, and pairs already seen
            for word in range(len(words)):
                if words[word] == 0:
                    continue
                for i in range(8 * word, 8 * word + 8):
                    if hits[i] == 0:
                        continue
                    one, other, value = first + row, first + start + i, block[i] - (mine + halves[i])
                    surely = value - (share * (half[one] + half[other]) + margin)
                    for _ in range(2):
                        if value >= limits[one]:
                            n = counts[one]
                            low[one, n], places[one, n], counts[one] = surely, other, n + 1
                            if n + 1 == room:
                                doubt = share * half[one] + margin
                                n, limits[one] = _prune(low[one], places[one], k, k // 16, doubt, half, share)
                                counts[one] = n
                                # Where more tie than there is room for, another search is needed.
                                if n > room - room // 4:
                                    counts[one], limits[one] = room + 1, np.float32(np.inf)
                        one, other = other, one


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def in_company(store: Any) -> Any:
    """An order of the points (N,) in which those with common candidates follow each other, mostly.

    By the first visited of each point's candidates, which is a min-hash of them (Broder 1997): rows of
    common candidates are still in the cache.
    """
    lowest = np.empty(len(store.counts), np.int64)
    for point in range(len(lowest)):
        lowest[point] = store.places[point, : min(store.counts[point], store.low.shape[1])].min()
    return np.argsort(lowest)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def decide(store: Any, visited: Any, unit: Any, turns: Any, indices: Any, distances: Any) -> None:
    """Fill indices and distances (N, k + 1) of the points ``turns`` by float64 products of candidates.

    ``visited`` (N,): their numbers among unit (N, d) float64. The point itself comes first, then by distance
    rounded to 12 digits, then by index. Points with too many candidates are left out.
    """
    k = indices.shape[1] - 1
    for point in turns:
        if store.counts[point] > store.low.shape[1]:
            continue
        itself, n = visited[point], store.counts[point]
        places = store.places[point, :n]
        if n > k:
            doubt = store.share * store.half[point] + store.margin
            n, _ = _prune(store.low[point, :n], places, k, 0, doubt, store.half, store.share)
        keys = _keys(unit, itself, visited[places[:n]])
        keys.sort()
        indices[itself, 0], distances[itself, 0] = itself, 0
        for i in range(k):
            indices[itself, i + 1] = keys[i] & (MOST - 1)
            distances[itself, i + 1] = (keys[i] // MOST) / 1e12


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})  # type: ignore[untyped-decorator]
def _keys(unit: Any, point: int, others: Any) -> Any:
    """Cosine distances in units of the twelfth digit, times MOST, plus the other's number: sorts as wanted.

    Four rows are read at once, because one waits for memory.
    """
    x, last = unit[point], len(others) - 1
    keys = np.empty(len(others), np.int64)
    for i in range(0, len(others), 4):
        places = i, min(i + 1, last), min(i + 2, last), min(i + 3, last)
        a, b, c, d = (
            unit[others[i]],
            unit[others[places[1]]],
            unit[others[places[2]]],
            unit[others[places[3]]],
        )
        s = t = u = v = 0.0
        for j in range(len(x)):
            s += x[j] * a[j]
            t += x[j] * b[j]
            u += x[j] * c[j]
            v += x[j] * d[j]
        products = s, t, u, v
        for j in range(4):
            steps = max(np.rint((1 - products[j]) * 1e12), 0.0)
            keys[places[j]] = np.int64(steps) * MOST + others[places[j]]
    return keys
