"""The linear SVM with squared hinge loss: objective, certificate, exact line search.

One class against the rest, as LinearSVC: minimise over v = (w, b)

    P(v) = 1/2 |v|^2 + C sum_i max(0, 1 - y_i v.(x_i, 1))^2

With alpha_i = 2 C slack_i the dual objective lies exactly 1/2 |grad P(v)|^2 below P(v): every v carries its
own proof of quality, which anybody can recompute from features and labels.

All functions take k problems on the same rows at once: rows (N, D) float64 with the constant column,
targets (k, N) of +-1, v (k, D).
"""

from __future__ import annotations

import numpy as np

#: Relative gap above which a fit counts as not converged: three decimals of the objective agree long
#: before F1 moves in the fourth.
GAP_LIMIT = 1e-4


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products of the rows of two (k, n) arrays."""
    return np.einsum("ij,ij->i", a, b)


def relative_gap(rows: np.ndarray, targets: np.ndarray, v: np.ndarray, C: float) -> np.ndarray:
    """Duality gap / P(v) of each problem, (k,); an upper bound of (P(v) - min P) / P(v)."""
    slack = np.maximum(0, 1 - targets * (v @ rows.T))
    gradient = v - 2 * C * ((slack * targets) @ rows)
    return 0.5 * dots(gradient, gradient) / (0.5 * dots(v, v) + C * dots(slack, slack))


def line_search(
    linear: np.ndarray, square: np.ndarray, margins: np.ndarray, change: np.ndarray, C: float
) -> np.ndarray:
    """Exact minima of P along directions, (k,).

    linear = v.direction and square = |direction|^2, (k,); margins and their change by a step of one, (k, N).
    The slope of P is continuous, rising and piecewise linear: Newton's method on it, kept inside a bracket,
    ends after a few evaluations.
    """
    slack_0, change_2 = 1 - margins, change * change
    low, high, length = np.zeros(len(linear)), np.full(len(linear), np.inf), np.ones(len(linear))
    for _ in range(60):
        slack = np.maximum(0, slack_0 - length[:, None] * change)
        slope = linear + length * square - 2 * C * dots(change, slack)
        bend = square + 2 * C * dots(change_2, (slack > 0).astype(float))
        low, high = np.where(slope > 0, low, length), np.where(slope > 0, length, high)
        better = length - slope / np.where(bend > 0, bend, 1)
        middle = np.where(np.isfinite(high), (low + high) / 2, 2 * length)
        better = np.where((better > low) & (better < high), better, middle)
        moved = np.abs(better - length)
        length = better
        if (moved <= 1e-10 * length).all():
            break
    return length
