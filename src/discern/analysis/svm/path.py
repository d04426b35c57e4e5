"""All one-against-rest problems of a fold over the whole path of C, solved in lockstep.

The finite Newton method of Keerthi & DeCoste (JMLR 6, 2005): P is piecewise quadratic, a step is a ridge
regression on the rows inside the margin, and with an exact line search finitely many steps reach the
minimum. Margins and gradients of all problems are two matrix products; the solution for one C starts the
next. LinearSVC's own solvers reach the same classifier where they converge; on overlapping classes their
defaults end sooner, but far from the optimum once t >= 100 (`make bench` prints the gap they leave).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from discern.analysis.svm.dual import Dual, inner_products
from discern.analysis.svm.primal import Primal, normal_matrix
from discern.analysis.svm.squared_hinge import dots, line_search, relative_gap

#: Problems in lockstep, at most: a matrix product with fewer columns waits for memory.
BLOCK = 16
#: Bytes of the two matrices (D, D) that each problem of a block holds, together.
BLOCK_BYTES = 2**29


class Path(NamedTuple):
    """v (T, k, D) float64; relative_gap (T, k); n_iter (T, k) Newton steps; CPU seconds (T,)."""

    v: np.ndarray
    relative_gap: np.ndarray
    n_iter: np.ndarray
    seconds: np.ndarray


def solve_path(
    rows: np.ndarray, targets: np.ndarray, costs: Sequence[float], *, tolerance: float, max_iter: int
) -> Path:
    """Solve k problems for every C of ``costs``, best in ascending order.

    rows (N, D) float64, C-contiguous, hold the constant column; targets (k, N) of +-1; tolerance: relative
    gap at which a problem ends; max_iter: Newton steps. The gaps returned are computed afresh from rows
    and v. Single problems that rounding keeps above the tolerance end where they no longer improve.
    """
    (n, d), k, started = rows.shape, len(targets), time.thread_time()
    path = Path(
        np.empty((len(costs), k, d)),
        np.empty((len(costs), k)),
        np.empty((len(costs), k), dtype=int),
        np.zeros(len(costs)),
    )
    kind, gram = (Dual, inner_products(rows)) if n <= d else (Primal, normal_matrix(rows))
    size = min(BLOCK, max(1, BLOCK_BYTES // (16 * d * d)))
    for first in range(0, k, size):
        block = slice(first, first + size)
        space = kind(rows, targets[block], gram)
        position, values = space.start(costs[0])
        for step, C in enumerate(costs):
            position, values, steps = _newton(space, C, position, values, tolerance, max_iter)
            path.n_iter[step, block] = steps
            path.v[step, block] = space.vectors(position)
            path.relative_gap[step, block] = relative_gap(rows, targets[block], path.v[step, block], C)
            path.seconds[step] += time.thread_time() - started
            started = time.thread_time()
    return path


def _newton(
    space: Dual | Primal,
    C: float,
    position: np.ndarray,
    values: np.ndarray,
    tolerance: float,
    max_iter: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates (k, ...), decision values (k, N) -> those of the minima, and Newton steps taken (k,)."""
    position, values, n_iter = position.copy(), values.copy(), np.zeros(len(position), dtype=int)
    left = np.arange(len(position))
    before, last = np.zeros(values.shape, dtype=bool), np.full(len(position), np.inf)
    for step in range(max_iter + 1):
        y = space.targets[left]
        slack = np.maximum(0, 1 - y * values[left])
        active = slack > 0
        gradient = space.gradient(position[left], 2 * C * slack * y)
        objective = 0.5 * space.square(position[left]) + C * dots(slack, slack)
        gap = 0.5 * space.square(gradient) / objective
        # The same active rows after a full step: this is the minimum, up to rounding.
        stalled = (active == before[left]).all(axis=1) & (gap > 0.5 * last[left])
        before[left], last[left] = active, gap
        go = (gap > tolerance) & ~stalled
        left = left[go]
        if not len(left) or step == max_iter:
            break
        directions = np.array(
            [
                space.direction(problem, inside, C, position[problem], down)
                for problem, inside, down in zip(left, active[go], gradient[go], strict=True)
            ]
        )
        change = space.values(directions)
        linear = space.inner(position[left], values[left], directions)
        square = space.inner(directions, change, directions)
        length = line_search(linear, square, (y[go] * values[left]), y[go] * change, C)[:, None]
        position[left] += length * directions
        values[left] += length * change
        n_iter[left] = step + 1
    return position, values, n_iter
