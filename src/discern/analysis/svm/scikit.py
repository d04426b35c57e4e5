"""The same fits by scikit-learn's own solvers: LinearSVC with its defaults, and SVC(kernel="linear").

scikit-learn is imported by the fits that use it: the import takes longer than the exact fits of many cells.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from discern.analysis.linear import pairs
from discern.analysis.svm.squared_hinge import GAP_LIMIT, relative_gap
from discern.config import SvmSettings

#: libsvm has no limit of its own and does not end on overlapping classes with a large C.
LIBSVM_ITERATIONS = 10_000_000


class Fit(NamedTuple):
    """coef (rows, d), intercept (rows,) on standardised features; seconds of CPU."""

    coef: np.ndarray
    intercept: np.ndarray
    relative_gap: float | None
    n_iter: int
    converged: bool
    seconds: float


def liblinear(rows: np.ndarray, labels: np.ndarray, k: int, settings: SvmSettings) -> Iterator[Fit]:
    """Yield LinearSVC with its own defaults for each t: what a plain script would run.

    rows (N, d + 1): standardised features and the constant column. It often stops far from the optimum
    once t >= 100; the gap says how far.
    """
    from sklearn.svm import LinearSVC

    n, d = len(rows), rows.shape[1] - 1
    features = np.ascontiguousarray(rows[:, :-1])
    present = np.unique(labels) if k > 2 else np.array([1])
    targets = np.where(labels == present[:, None], 1.0, -1.0)
    for t in settings.t:
        started = time.thread_time()
        model = LinearSVC(C=t * d / n, random_state=settings.seed).fit(features, labels)
        # A class without training images: the limit of its problem, which says no to everything.
        v = np.tile(np.append(np.zeros(d), -1.0), (1 if k == 2 else k, 1))
        found = np.column_stack([model.coef_, model.intercept_])
        if k > 2 and len(present) == 2:  # scikit-learn keeps one row for two classes
            found = np.concatenate([-found, found])
        v[present if k > 2 else [0]] = found
        gap = float(relative_gap(rows, targets, found, t * d / n).max())
        converged = gap <= GAP_LIMIT and int(np.max(model.n_iter_)) < model.max_iter
        seconds = time.thread_time() - started
        yield Fit(v[:, :-1], v[:, -1], gap, int(np.max(model.n_iter_)), converged, seconds)


def hinge(rows: np.ndarray, labels: np.ndarray, k: int, settings: SvmSettings) -> Iterator[Fit]:
    """Yield SVC(kernel="linear"), one against one, for each t."""
    from sklearn.svm import SVC

    n, d = len(rows), rows.shape[1] - 1
    features, basis = _reduced(rows[:, :-1])
    present = np.unique(labels)
    for t in settings.t:
        started = time.thread_time()
        model = SVC(kernel="linear", C=t * d / n, max_iter=LIBSVM_ITERATIONS, cache_size=500)
        model.fit(features, labels)
        coef = model.coef_ if basis is None else model.coef_ @ basis.T
        sign = -1 if len(present) == 2 and k > 2 else 1  # scikit-learn turns the sign of binary problems
        coef, intercept = _all_pairs(sign * coef, sign * model.intercept_, present, k)
        seconds = time.thread_time() - started
        yield Fit(coef, intercept, None, int(np.max(model.n_iter_)), not model.fit_status_, seconds)


def _reduced(features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Rotate features (N, d) with N < d to (N, N): features @ basis. An SVM sees inner products only."""
    if len(features) >= features.shape[1]:
        return features, None
    basis, upper = np.linalg.qr(features.T)
    return np.ascontiguousarray(upper.T), basis


def _all_pairs(
    coef: np.ndarray, intercept: np.ndarray, present: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pairs that were fitted -> rows of all pairs; a class never seen loses to any seen."""
    if k == 2:
        return coef, intercept
    fitted = {(present[i], present[j]): row for row, (i, j) in enumerate(pairs(len(present)))}
    everything = pairs(k)
    all_coef = np.zeros((len(everything), coef.shape[1]))
    all_intercept = np.zeros(len(everything))
    for row, (i, j) in enumerate(everything):
        if (i, j) in fitted:
            all_coef[row], all_intercept[row] = coef[fitted[i, j]], intercept[fitted[i, j]]
        else:
            all_intercept[row] = float(i in present) - float(j in present)
    return all_coef, all_intercept
