"""What the maps of a cell take of memory, counted before it is taken: only what is certainly held at once."""

from __future__ import annotations

import logging

from discern.analysis.knn import BLOCK_ENTRIES
from discern.config import UmapSettings
from discern.free_memory import affordable, gib, require

log = logging.getLogger("discern")


def of_cell(n: int, d: int, settings: UmapSettings) -> int:
    """Bytes that all threads share: n images, d numbers each.

    Directions in float64, a copy in float32 with the candidates of the neighbour search, blocks of distances.
    """
    k = min(max(*settings.n_neighbors, settings.quality_neighbors + 1), n)
    return n * d * (8 + 4) + n * (2 * k + 64) * 8 + min(BLOCK_ENTRIES, n * n) * 8


def of_map(n: int, settings: UmapSettings) -> int:
    """Bytes of one thread: a graph of up to two edges per neighbour, its schedule, and the points moved."""
    edges = 2 * n * min(max(settings.n_neighbors), n)
    return edges * 40 + n * 160


def workers(where: str, n: int, d: int, settings: UmapSettings, threads: int) -> int:
    """Threads that memory holds, at most ``threads``; DiscernError with the figure if not even one.

    The slower path where memory is short: fewer maps at a time, with the same results.
    """
    shared, each = of_cell(n, d, settings), of_map(n, settings)
    fit = affordable(each, shared, threads)
    if fit == 0:
        require(where, f"maps of {n} images x {d}", shared + each)
    elif fit < threads:
        log.warning("memory for %d instead of %d threads, %s each", fit, threads, gib(each))
    return max(fit, 1)
