"""Newton steps for few rows: v = rows^T beta, everything expressed by inner products of the rows.

The minimum lies in the span of the rows, so nothing is lost, and with N rows of D > N numbers all work
shrinks to N x N. It also pays somewhat beyond: the inner products are computed once for all problems.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas

from discern.analysis.svm.factors import factorised, solved
from discern.analysis.svm.squared_hinge import dots


class Dual:
    """Coordinates beta (k, N) of k problems on rows (N, D)."""

    def __init__(self, rows: np.ndarray, targets: np.ndarray, gram: np.ndarray) -> None:
        """gram: rows rows^T (N, N), shared by blocks of problems on the same rows."""
        self.rows, self.targets, self.gram = rows, targets, gram

    def start(self, C: float) -> tuple[np.ndarray, np.ndarray]:
        """Ridge regression on all rows, one factorisation for all problems: beta and values (k, N)."""
        beta = solved(factorised(self.gram, 0.5 / C), self.targets.T).T
        return beta, self.values(beta)

    def values(self, beta: np.ndarray) -> np.ndarray:
        """Decision values (k, N)."""
        return beta @ self.gram

    def vectors(self, beta: np.ndarray) -> np.ndarray:
        """v (k, D)."""
        return beta @ self.rows

    def gradient(self, beta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Of v - rows^T weights; weights (k, N)."""
        return beta - weights

    def square(self, beta: np.ndarray) -> np.ndarray:
        """|v|^2 of each problem."""
        return np.maximum(0, dots(beta, self.values(beta)))

    def inner(self, beta: np.ndarray, values: np.ndarray, other: np.ndarray) -> np.ndarray:
        """v.v' of each problem; values are those of beta, ``other`` the coordinates of v'."""
        return dots(values, other)

    def direction(
        self, problem: int, active: np.ndarray, C: float, beta: np.ndarray, gradient: np.ndarray
    ) -> np.ndarray:
        """Newton's direction (N,): to the ridge regression on the active rows alone."""
        inside, direction = np.flatnonzero(active), -beta
        if len(inside):
            # Transposed, for LAPACK's order without a turn: it is symmetric.
            factor = factorised(self.gram[inside][:, inside].T, 0.5 / C)
            direction[inside] += solved(factor, self.targets[problem, inside])
        return direction


def inner_products(rows: np.ndarray) -> np.ndarray:
    """rows rows^T (N, N), both triangles."""
    lower = blas.dsyrk(1.0, rows.T, trans=1, lower=1)
    return np.asarray(lower + np.tril(lower, -1).T)
