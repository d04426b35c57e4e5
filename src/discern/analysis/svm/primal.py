"""Newton steps for many rows: v itself, with the normal matrices of the active rows.

A step solves (I / 2C + X_A^T X_A) x = b for the rows A inside the margin. Between steps few rows enter or
leave A, so the normal matrix is updated by them, and while they are very few its old Cholesky factor is
corrected (Woodbury) instead of replaced. With fewer active rows than columns the system of the rows'
inner products is smaller. The cheapest of the three ways is taken at each step; all are exact.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, blas

from discern.analysis.svm.factors import factorised, solved
from discern.analysis.svm.squared_hinge import dots, line_search

#: Cheap steps before the first Newton step: they bring most rows to their side of the margin.
WARM_UP = 10


class Primal:
    """Coordinates v (k, D) of k problems on rows (N, D)."""

    def __init__(self, rows: np.ndarray, targets: np.ndarray, gram: np.ndarray) -> None:
        """gram: lower triangle of rows^T rows, shared by blocks of problems on the same rows."""
        self.rows, self.targets, self.gram = rows, targets, gram
        self._systems = [_System(rows, self.gram) for _ in targets]

    def start(self, C: float) -> tuple[np.ndarray, np.ndarray]:
        """Ridge regression on all rows, then a few steps of nonlinear conjugate gradients: v, values (k, N).

        One factorisation serves all problems: of the start, and as the preconditioner of the gradients.
        """
        factor = factorised(self.gram, 0.5 / C)
        v = solved(factor, (self.targets @ self.rows).T).T
        values = self.values(v)
        direction, scale = np.zeros_like(v), np.full(len(v), np.inf)
        previous = np.zeros_like(v)
        for _ in range(WARM_UP):
            margins = self.targets * values
            gradient = self.gradient(v, 2 * C * np.maximum(0, 1 - margins) * self.targets)
            downhill = solved(factor, gradient.T).T
            conjugate = np.maximum(0, dots(downhill, gradient - previous) / scale)
            direction = conjugate[:, None] * direction - downhill
            change = self.values(direction)
            square, linear = dots(direction, direction), dots(v, direction)
            length = line_search(linear, square, margins, self.targets * change, C)[:, None]
            v, values = v + length * direction, values + length * change
            previous, scale = gradient, np.maximum(dots(downhill, gradient), np.finfo(float).tiny)
        return v, values

    def values(self, v: np.ndarray) -> np.ndarray:
        """Decision values (k, N)."""
        return v @ self.rows.T

    def vectors(self, v: np.ndarray) -> np.ndarray:
        """v (k, D)."""
        return v

    def gradient(self, v: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Of v - rows^T weights; weights (k, N)."""
        return v - weights @ self.rows

    def square(self, v: np.ndarray) -> np.ndarray:
        """|v|^2 of each problem."""
        return dots(v, v)

    def inner(self, v: np.ndarray, values: np.ndarray, other: np.ndarray) -> np.ndarray:
        """v.v' of each problem."""
        return dots(v, other)

    def direction(
        self, problem: int, active: np.ndarray, C: float, v: np.ndarray, gradient: np.ndarray
    ) -> np.ndarray:
        """Newton's direction (D,) from the gradient; errors of the solution are mended by the next step."""
        return -self._systems[problem].solve(active, C, gradient / (2 * C))


def normal_matrix(rows: np.ndarray) -> np.ndarray:
    """Lower triangle of rows^T rows (D, D), column-major."""
    return np.asarray(blas.dsyrk(1.0, rows.T, lower=1))


class _System:
    """(I / 2C + X_A^T X_A) x = b of one problem, while A and C change."""

    def __init__(self, rows: np.ndarray, gram: np.ndarray) -> None:
        self.rows = rows
        self._gram, self._owned = gram, False  # shared by all problems until the first update
        self._inside = np.ones(len(rows), dtype=bool)  # the rows of _gram
        self._C = 0.0
        self._factor = np.empty((0, 0))
        self._factored = self._inside  # the rows of _factor
        self._corrections = np.empty((rows.shape[1], 0))  # columns: L^-1 x_i of the rows ...
        self._corrected = np.empty(0, dtype=np.intp)  # ... listed here

    def solve(self, active: np.ndarray, C: float, right: np.ndarray) -> np.ndarray:
        """x (D,) for the rows of the mask ``active`` (N,)."""
        d, n = self.rows.shape[1], int(active.sum())
        if n == 0:
            return 2 * C * right
        changed = np.flatnonzero(self._factored != active) if self._C == C else None
        updates = min(int((self._inside != active).sum()), n)
        small = n * n * d + n**3 if n < d else np.inf
        # Flops; triangular solves and factorisations run at about half the rate of products.
        fresh = updates * d * d + d**3 / 1.5
        correct = np.inf
        if changed is not None and len(changed) < d / 2:
            correct = len(changed) * (2 * d * d + 2 * len(changed) * d) + len(changed) ** 3
        if small <= min(fresh, correct):
            return self._by_inner_products(active, C, right)
        if correct < fresh and changed is not None:
            try:
                return self._by_correction(changed, active[changed], right)
            except LinAlgError:
                pass
        self._update(active)
        self._factor, self._factored, self._C = factorised(self._gram, 0.5 / C), active.copy(), C
        self._corrections, self._corrected = self._corrections[:, :0], self._corrected[:0]
        return solved(self._factor, right)

    def _by_inner_products(self, active: np.ndarray, C: float, right: np.ndarray) -> np.ndarray:
        rows = self.rows[active]
        inner = np.asarray(blas.dsyrk(1.0, rows.T, trans=1, lower=1))
        return 2 * C * (right - solved(factorised(inner, 0.5 / C), rows @ right) @ rows)

    def _by_correction(self, changed: np.ndarray, entered: np.ndarray, right: np.ndarray) -> np.ndarray:
        x = blas.dtrsv(self._factor, right, lower=1)
        if len(changed):
            kept = np.isin(self._corrected, changed, assume_unique=True)
            new = np.setdiff1d(changed, self._corrected, assume_unique=True)
            self._corrections, self._corrected = self._corrections[:, kept], self._corrected[kept]
            if len(new):
                columns = blas.dtrsm(1.0, self._factor, self.rows[new].T, lower=1)
                self._corrections = np.hstack([self._corrections, columns])
                self._corrected = np.concatenate([self._corrected, new])
            signs = np.where(entered[np.searchsorted(changed, self._corrected)], 1.0, -1.0)
            inner = self._corrections.T @ self._corrections + np.diag(signs)
            x = x - self._corrections @ np.linalg.solve(inner, self._corrections.T @ x)
        return np.asarray(blas.dtrsv(self._factor, x, lower=1, trans=1))

    def _update(self, active: np.ndarray) -> None:
        entered, left = active & ~self._inside, self._inside & ~active
        if entered.sum() + left.sum() > active.sum():
            self._gram, self._owned = normal_matrix(self.rows[active]), True
        else:
            for sign, mask in ((1.0, entered), (-1.0, left)):
                if mask.any():
                    self._gram = blas.dsyrk(
                        sign, self.rows[mask].T, beta=1.0, c=self._gram, lower=1, overwrite_c=self._owned
                    )
                    self._owned = True
        self._inside = active.copy()
