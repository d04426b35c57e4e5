"""Ridge regressions that predict every row from all the others, in closed form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Penalties to choose from, as ratio of noise to signal: penalty / (variance of a coordinate x coordinates).
RATIOS = 10.0 ** np.arange(-4, 3)


class LeftOut(NamedTuple):
    """residual, linear: (n, k), what the fit without a row leaves of it, and the linear part that
    it predicts there (without constant). coefficients: (r, k), their mean over the n fits.
    """

    residual: np.ndarray
    linear: np.ndarray
    coefficients: np.ndarray


class Spectrum:
    """Eigenvalues of coordinates (n, r), shared by all penalties and all columns of scores.

    With ``constant``, an unpenalised constant is fitted as well. Leaving row i out of a ridge regression
    divides its residual by 1 - h_i (h: diagonal of the hat matrix) and takes M^-1 x_i times that from the
    coefficients (M: penalised normal matrix), so n fits cost what one costs.
    """

    def __init__(self, coordinates: np.ndarray, constant: bool):
        self._constant = constant
        centred = coordinates - coordinates.mean(axis=0) if constant else coordinates
        self._values, self._vectors = np.linalg.eigh(centred.T @ centred)
        self._z = centred @ self._vectors
        self._given = coordinates @ self._vectors

    def residual(self, scores: np.ndarray, penalty: float) -> np.ndarray:
        """Of every row, by the fit without it: (n,)."""
        weight = 1 / (self._values + penalty)
        leverage = self._z**2 @ weight
        fitted = self._z @ (weight * (self._z.T @ scores))
        if self._constant:
            leverage, fitted = leverage + 1 / len(scores), fitted + scores.mean()
        return (scores - fitted) / (1 - leverage)

    def left_out(self, scores: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Residual and linear part of every row (n,), and n x its fit's coefficients, (n, r), summable."""
        residual = self.residual(scores, penalty)
        weight = 1 / (self._values + penalty)
        whole = weight * (self._z.T @ scores)
        linear = self._given @ whole - (self._given * self._z) @ weight * residual
        return residual, linear, whole - weight * self._z * residual[:, None]

    def turned_back(self, coefficients: np.ndarray) -> np.ndarray:
        """Coefficients of eigenvectors (r,) as coefficients of the coordinates (r,)."""
        return self._vectors @ coefficients


def leave_one_out(coordinates: np.ndarray, scores: np.ndarray, variance: float, constant: bool) -> LeftOut:
    """Fit columns of ``scores`` (n, k) on ``coordinates`` (n, r), whose mean variance is ``variance``.

    The penalty for the rows of one half (every second row) is the one that predicts the other half best;
    so nothing that meets a row has seen it.
    """
    penalties = RATIOS * variance * coordinates.shape[1]
    whole = Spectrum(coordinates, constant)
    halves = [slice(0, None, 2), slice(1, None, 2)]
    parts = [Spectrum(coordinates[half], constant) for half in halves]
    found = LeftOut(
        np.empty_like(scores), np.empty_like(scores), np.zeros((coordinates.shape[1], scores.shape[1]))
    )
    for j, column in enumerate(scores.T):
        total = np.zeros(coordinates.shape[1])
        for half, other, seen in zip(halves, halves[::-1], parts[::-1], strict=True):
            errors = [(seen.residual(column[other], penalty) ** 2).sum() for penalty in penalties]
            residual, linear, fits = whole.left_out(column, float(penalties[np.argmin(errors)]))
            found.residual[half, j], found.linear[half, j] = residual[half], linear[half]
            total += fits[half].sum(axis=0)
        found.coefficients[:, j] = whole.turned_back(total / len(scores))
    return found
