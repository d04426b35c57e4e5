"""What fitting takes of memory, counted before it is taken: only what is certainly held at once."""

from __future__ import annotations

import logging

from discern.analysis.linear import PAIRWISE
from discern.config import SvmSettings
from discern.free_memory import affordable, gib, require

log = logging.getLogger("discern")

#: Bytes of a float64.
WIDE = 8
#: What NumPy's and SciPy's OpenBLAS take for each thread that calls them; without it they end the process.
BUFFERS = 2 * 32 * 2**20


def of_fold(n: int, d: int, k: int, settings: SvmSettings) -> int:
    """Bytes of one fold: n training images, d numbers each, k classes.

    The training part as it is (float32), standardised (float64), and one more copy of that: of its
    deviations, of the rows inside the margin, or of a library's own. Then what the solver adds.
    """
    rows = n * d * (4 + 2 * WIDE) + BUFFERS
    if settings.estimator == PAIRWISE:
        return rows
    if settings.solver == "liblinear":
        return rows + n * d * 16  # its own records of index and value
    problems = 1 if k == 2 else k
    # Inner products of the rows, or normal matrices of the columns, while they are made; decision values.
    return rows + 3 * WIDE * min(n, d + 1) ** 2 + 3 * WIDE * problems * n


def workers(where: str, n: int, d: int, k: int, settings: SvmSettings, threads: int) -> int:
    """Folds at a time that memory holds, at most ``threads``; DiscernError with the figure if not even one.

    The slower path where memory is short: folds one after the other, with the same results.
    """
    need = of_fold(n, d, k, settings)
    fit = affordable(need, 0, threads)
    if fit == 0:
        require(where, f"the SVM of one fold ({n} images x {d}, {k} classes)", need)
    elif fit < threads:
        log.warning("memory for %d instead of %d folds at a time, %s each", fit, threads, gib(need))
    return max(fit, 1)
