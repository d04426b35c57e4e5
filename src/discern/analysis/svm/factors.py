"""Cholesky factors through LAPACK without copies and checks: at these sizes they cost as much as the work."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack


def factorised(matrix: np.ndarray, ridge: float) -> np.ndarray:
    """Lower Cholesky factor of a symmetric matrix (n, n) + ridge I; only its lower triangle is read.

    A matrix that rounding has made indefinite gets the smallest ridge that mends it: the step which uses
    the factor is then shorter, not wrong.
    """
    extra, scale = 0.0, float(np.abs(np.diagonal(matrix)).max(initial=0.0))
    while True:
        shifted = matrix.copy(order="F")
        shifted.flat[:: len(matrix) + 1] += ridge + extra
        factor, failed = lapack.dpotrf(shifted, lower=1, clean=0, overwrite_a=1)
        if not failed:
            return factor
        extra = max(10 * extra, 1e-15 * scale)


def solved(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve (L L^T) x = right, (n,) or (n, m)."""
    return np.asarray(lapack.dpotrs(factor, right, lower=1)[0])
