"""The linear SVM with squared hinge loss, solved to a certificate.

One class against the rest, as LinearSVC: minimise over v = (w, b)

    P(v) = 1/2 |v|^2 + C sum_i max(0, 1 - y_i v.(x_i, 1))^2

P is 1-strongly convex, so P(v) - min P <= 1/2 |grad P(v)|^2: every fit carries its own proof of quality.

Solved by the finite Newton method of Keerthi & DeCoste (JMLR 6, 2005): P is piecewise quadratic, a step
is a ridge regression on the rows inside the margin, an exact line search makes it end after finitely many
steps. LinearSVC's own solvers reach the same classifier where they converge; on overlapping classes their
defaults end sooner, but far from the optimum once t >= 100 (`make bench` prints the gap they leave).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

#: Relative gap above which a fit counts as not converged: three decimals of the objective agree long
#: before F1 moves in the fourth.
GAP_LIMIT = 1e-4


class Solution(NamedTuple):
    """v: (D,) float64; relative_gap: bound on (P - min P) / P; n_iter: Newton steps."""

    v: np.ndarray
    relative_gap: float
    n_iter: int
    converged: bool


def reduce(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Rotate rows (N, D) with N < D to (N, N) exactly: rows @ basis, basis (D, N) orthonormal.

    The problem sees rows only through inner products, so ``basis @ v`` solves the original one.
    """
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, upper = np.linalg.qr(rows.T)
    return np.ascontiguousarray(upper.T), basis


def relative_gap(rows: np.ndarray, targets: np.ndarray, v: np.ndarray, C: float) -> float:
    """Bound on (P(v) - min P) / P(v). rows (N, D) with the constant column, targets (N,) of +-1."""
    slack = np.maximum(0, 1 - targets * (rows @ v))
    gradient = v - 2 * C * (rows.T @ (slack * targets))
    return float(0.5 * (gradient @ gradient) / (0.5 * (v @ v) + C * (slack @ slack)))


def ridge(rows: np.ndarray, targets: np.ndarray, C: float) -> np.ndarray:
    """Minimise 1/2 |v|^2 + C |rows v - targets|^2 in the smaller of the two spaces; v (D,)."""
    n, d = rows.shape
    if n == 0:
        return np.zeros(d)
    gram = rows @ rows.T if n < d else rows.T @ rows
    gram.flat[:: len(gram) + 1] += 0.5 / C
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    if n < d:
        return rows.T @ cho_solve(factor, targets, check_finite=False)
    return np.asarray(cho_solve(factor, rows.T @ targets, check_finite=False))


def solve(
    rows: np.ndarray,
    targets: np.ndarray,
    C: float,
    start: np.ndarray,
    *,
    tolerance: float = 1e-6,
    max_iter: int = 200,
) -> Solution:
    """Solve one class against the rest.

    rows (N, D) hold the constant column, or are a rotation of such rows; targets (N,) of +-1; start (D,),
    for instance the solution for a smaller C; tolerance: relative gap to stop at; max_iter: Newton steps.
    """
    v, margins = start, targets * (rows @ start)
    for step in range(max_iter + 1):
        gap = relative_gap(rows, targets, v, C)
        if gap <= tolerance or step == max_iter:
            break
        active = margins < 1
        direction = ridge(rows[active], targets[active], C) - v
        change = targets * (rows @ direction)
        length = _line_search(v, direction, margins, change, C)
        v, margins = v + length * direction, margins + length * change
    return Solution(v, gap, step, gap <= GAP_LIMIT)


def _line_search(
    v: np.ndarray, direction: np.ndarray, margins: np.ndarray, change: np.ndarray, C: float
) -> float:
    """Exact minimum along ``direction``: the root of a rising, piecewise linear slope."""
    linear, square = v @ direction, direction @ direction
    low, high, length = 0.0, np.inf, 1.0
    for _ in range(100):
        slack = 1 - margins - length * change
        inside = slack > 0
        slope = linear + length * square - 2 * C * (change[inside] @ slack[inside])
        bend = square + 2 * C * (change[inside] @ change[inside])
        low, high = (low, length) if slope > 0 else (length, high)
        better = length - slope / bend
        if not low < better < high:
            better = (low + high) / 2 if np.isfinite(high) else 2 * length
        if abs(better - length) <= 1e-12 * length:
            break
        length = better
    return length
