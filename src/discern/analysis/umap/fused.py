"""All maps of one graph in one pass over umap-learn's edge schedule and negative samples.

Which edge moves in which epoch and which points repel it depend on graph, start and seed, not on min_dist.
So the schedule is walked once, and every step moves the points of up to ``CELLS`` maps as vectors.
``GROUP`` edges with different heads move at once, because one chain of steps waits for its own results;
they read the same positions, and their moves are added.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from discern.analysis.umap.lanes import (
    CELLS,
    GROUP,
    at_least,
    gather,
    limited,
    muladd,
    muladd_double,
    power,
    prefetch,
    scatter_add,
    spread,
    tile,
)

#: Groups whose samples are drawn, and fetched into the cache, before their points move.
AHEAD = 16
#: Samples that one edge can draw in an epoch: 5 per epoch passed, and an edge waits up to one more than due.
SLOTS = 16
#: Heads whose edges take turns.
TURNS = 256
NEGATIVE_RATE = 5.0


def move_together(
    start: np.ndarray,
    head: np.ndarray,
    tail: np.ndarray,
    epochs_per_sample: np.ndarray,
    n_epochs: int,
    seeds: np.ndarray,
    curves: list[tuple[float, float]],
    *,
    together: int = GROUP,
    rate: float = 1.0,
) -> list[np.ndarray]:
    """Move the points of a start (N, 2) float32 -> per curve (a, b) a map (N, 2) float32.

    Edges head -> tail (E,) int32 sorted by head, epochs_per_sample (E,) float64, seeds (3,) int64 of
    umap-learn's generator. ``together``: edges that move at once; with 1, in the order given, the steps are
    umap-learn's but for rounding. ``rate``: the first learning rate. More than ``CELLS`` curves take passes.
    """
    if together > 1:
        order = taking_turns(head)
        head, tail, epochs_per_sample = head[order], tail[order], epochs_per_sample[order]
    maps: list[np.ndarray] = []
    for first in range(0, len(curves), CELLS):
        part = curves[first : first + CELLS]
        position = _aligned(len(start) + 1)
        position[:-1] = start[:, :, None]
        position[-1] = 1e6  # nobody's point: too far to move what it is paired with
        states = start[:, :1].astype(np.float64).view(np.int64) + seeds[None, :]
        _layout(
            position, head, tail, epochs_per_sample, n_epochs, states, _coefficients(part), together, rate
        )
        maps += [np.ascontiguousarray(position[:-1, :, cell]) for cell in range(len(part))]
    return maps


def taking_turns(head: np.ndarray) -> np.ndarray:
    """Order of edges sorted by head (E,): neighbours in it differ in head; those of one head keep theirs."""
    rank = np.arange(len(head)) - np.searchsorted(head, head)
    return np.lexsort((head, rank, head // TURNS))


def _aligned(n: int) -> np.ndarray:
    """(n, 2, CELLS) float32 whose points are cache lines."""
    room: np.ndarray = np.empty(n * 2 * CELLS + 16, dtype=np.float32)
    first = -room.ctypes.data % 64 // 4
    return room[first : first + n * 2 * CELLS].reshape(n, 2, CELLS)


def _coefficients(curves: list[tuple[float, float]]) -> np.ndarray:
    """Per row CELLS values: a, b * 2**23, -2ab, 2b; unused cells repeat the last."""
    a, b = np.array([*curves, *[curves[-1]] * (CELLS - len(curves))]).T
    return np.stack([a, b * 2**23, -2 * a * b, 2 * b]).astype(np.float32)


@njit(error_model="numpy", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _move(
    position: Any, groups: int, heads: Any, tails: Any, counts: Any, samples: Any, curves: Any, rate: float
) -> None:
    """Attract heads and tails, then repel heads from their samples; the forces of UMAP, clipped at 4."""
    a, b, pull, push = tile(curves, 0), tile(curves, 1), tile(curves, 2), tile(curves, 3)
    near, least, speed = spread(np.float32(0.001)), spread(np.float32(1e-18)), spread(np.float32(rate))
    none = spread(np.float32(0))
    for group in range(groups):
        at = group * GROUP
        x0, y0 = gather(position, heads, at, 0), gather(position, heads, at, 1)
        dx, dy = x0 - gather(position, tails, at, 0), y0 - gather(position, tails, at, 1)
        # Where two points coincide dx and dy are 0, and the limit only keeps the quotient finite.
        square = at_least(muladd(dx, dx, dy * dy), least)
        raised = power(square, b)
        force = pull * raised / muladd(a * square, raised, square)
        step_x, step_y = limited(force * dx) * speed, limited(force * dy) * speed
        x, y = x0 + step_x, y0 + step_y
        scatter_add(position, tails, at, 0, none - step_x)
        scatter_add(position, tails, at, 1, none - step_y)
        for slot in range(counts[group]):
            sample = (group * SLOTS + slot) * GROUP
            dx, dy = x - gather(position, samples, sample, 0), y - gather(position, samples, sample, 1)
            square = at_least(muladd(dx, dx, dy * dy), least)
            widened = near + square
            force = push / muladd(a * widened, power(square, b), widened)
            x, y = muladd(limited(force * dx), speed, x), muladd(limited(force * dy), speed, y)
        scatter_add(position, heads, at, 0, x - x0)
        scatter_add(position, heads, at, 1, y - y0)


@njit(error_model="numpy", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _drawn(states: Any, point: int, nobody: Any) -> Any:
    """The next sample of a point by umap-learn's generator (Tausworthe, three components)."""
    s0, s1, s2 = states[point, 0], states[point, 1], states[point, 2]
    s0 = (((s0 & 0xFFFFFFFE) << 12) & 0xFFFFFFFF) ^ ((((s0 << 13) & 0xFFFFFFFF) ^ s0) >> 19)
    s1 = (((s1 & 0xFFFFFFF8) << 4) & 0xFFFFFFFF) ^ ((((s1 << 2) & 0xFFFFFFFF) ^ s1) >> 25)
    s2 = (((s2 & 0xFFFFFFF0) << 17) & 0xFFFFFFFF) ^ ((((s2 << 3) & 0xFFFFFFFF) ^ s2) >> 11)
    states[point, 0], states[point, 1], states[point, 2] = s0, s1, s2
    value = np.int32(s0 ^ s1 ^ s2)
    sign = value >> np.int32(31)
    # The remainder towards minus infinity, without a branch on the sign: it is a coin toss.
    rest = np.int32(np.uint32(value ^ sign) % np.uint32(nobody))
    sample = rest if sign == 0 else nobody - np.int32(1) - rest
    return nobody if sample == point else sample


@njit(error_model="numpy", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _layout(
    position: Any, head: Any, tail: Any, per_sample: Any, n_epochs: int, states: Any, curves: Any,
    together: int, first_rate: float,
) -> None:  # fmt: skip
    """The epochs: which edges are due, their samples, and the moves, ``AHEAD`` groups at a time."""
    per_negative = per_sample / NEGATIVE_RATE
    due, due_negative = per_sample.copy(), per_negative.copy()
    nobody = np.int32(len(position) - 1)
    heads, tails = np.full(AHEAD * GROUP, nobody, np.int32), np.full(AHEAD * GROUP, nobody, np.int32)
    counts = np.zeros(AHEAD, np.int64)
    samples = np.full(AHEAD * SLOTS * GROUP, nobody, np.int32)
    rate = first_rate
    for epoch in range(n_epochs):
        group, lane = 0, 0
        for edge in range(len(per_sample)):
            if due[edge] > epoch:
                continue
            due[edge] += per_sample[edge]
            n_samples = min(int((epoch - due_negative[edge]) / per_negative[edge]), SLOTS)
            due_negative[edge] = muladd_double(float(n_samples), per_negative[edge], due_negative[edge])
            point = head[edge]
            full = lane == together
            for other in range(lane):
                full |= heads[group * GROUP + other] == point
            if full:
                group, lane = group + 1, 0
                if group == AHEAD:
                    _move(position, group, heads, tails, counts, samples, curves, rate)
                    heads[:], tails[:], counts[:], samples[:], group = nobody, nobody, 0, nobody, 0
            heads[group * GROUP + lane], tails[group * GROUP + lane] = point, tail[edge]
            prefetch(position, point)
            prefetch(position, tail[edge])
            counts[group] = max(counts[group], n_samples)
            for slot in range(n_samples):
                sample = _drawn(states, point, nobody)
                prefetch(position, sample)
                samples[(group * SLOTS + slot) * GROUP + lane] = sample
            lane += 1
        _move(position, group + (lane > 0), heads, tails, counts, samples, curves, rate)
        heads[:], tails[:], counts[:], samples[:] = nobody, nobody, 0, nobody
        rate = first_rate * (1.0 - epoch / n_epochs)
