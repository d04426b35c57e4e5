"""One fold: a linear SVM for every t, chosen on the validation part.

The hold-out never enters this module, so nothing here can be fitted or chosen on it.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from discern.analysis.linear import PAIRWISE, Classifier, pairs, predicted_labels
from discern.analysis.metrics import METRICS, count
from discern.analysis.svm import squared_hinge
from discern.config import SvmSettings
from discern.errors import DiscernError

log = logging.getLogger("discern")

#: libsvm has no limit of its own and does not end on overlapping classes with a large C.
LIBSVM_ITERATIONS = 10_000_000


class Part(NamedTuple):
    """Raw features (N, d) float32 and labels (N,)."""

    features: np.ndarray
    labels: np.ndarray


class Candidate(NamedTuple):
    """The classifier of one t and its row of ``validation``."""

    classifier: Classifier
    record: dict[str, Any]


class _Fit(NamedTuple):
    coef: np.ndarray
    intercept: np.ndarray
    relative_gap: float | None
    n_iter: int
    converged: bool


def fit_fold(
    train: Part, validation: Part, classes: tuple[str, ...], settings: SvmSettings, name: str = ""
) -> list[Candidate]:
    """Fit every t on ``train`` (C = t d / N) and score it on ``validation``; seconds are CPU seconds.

    ``name`` names the fold in warnings. Raises DiscernError if ``train`` holds a single class.
    """
    if len(np.unique(train.labels)) < 2:
        raise DiscernError(f"{name}: the training part holds a single class, nothing can be learnt")
    scaler = StandardScaler().fit(train.features.astype(np.float64))
    standardised = scaler.transform(train.features.astype(np.float64))
    n, d = standardised.shape
    squared = _liblinear if settings.solver == "liblinear" else _squared_hinge
    fits = _hinge if settings.estimator == PAIRWISE else squared
    candidates = []
    started = time.process_time()
    for t, fit in zip(settings.t, fits(standardised, train.labels, len(classes), settings), strict=True):
        seconds = time.process_time() - started
        classifier = Classifier(
            scaler.mean_, scaler.scale_, fit.coef, fit.intercept, classes, settings.estimator
        )
        predicted = predicted_labels(classifier.decision(validation.features))
        counts = count(validation.labels, predicted, len(classes))
        record = {
            "t": float(t),
            "C": t * d / n,
            **{metric: float(score(counts)) for metric, score in METRICS.items()},
            "relative_gap": fit.relative_gap,
            "n_iter": fit.n_iter,
            "converged": fit.converged,
            "seconds": seconds,
        }
        if not fit.converged:
            log.warning("%s, t = %g: not converged, relative gap %s", name, t, fit.relative_gap)
        candidates.append(Candidate(classifier, record))
        started = time.process_time()
    return candidates


def best(candidates: list[Candidate], settings: SvmSettings) -> Candidate:
    """The highest validation score; the smallest t wins ties."""
    return max(candidates, key=lambda c: (c.record[settings.selection], -c.record["t"]))


def _squared_hinge(features: np.ndarray, labels: np.ndarray, k: int, settings: SvmSettings) -> Any:
    """Yield the fit of each t; standardised features (N, d) are reduced once for all."""
    n, d = features.shape
    rows, basis = squared_hinge.reduce(np.column_stack([features, np.ones(n)]))
    positives = [1] if k == 2 else range(k)
    targets = np.array([np.where(labels == positive, 1.0, -1.0) for positive in positives])
    # With every row inside the margin, one factorisation starts all classes.
    starts = squared_hinge.ridge(rows, targets.T, settings.t[0] * d / n).T
    for t in settings.t:
        solutions = [
            squared_hinge.solve(
                rows,
                sign,
                t * d / n,
                start,
                tolerance=settings.tolerance,
                max_iter=settings.max_iter,
            )
            for sign, start in zip(targets, starts, strict=True)
        ]
        starts = np.array([s.v for s in solutions])
        v = starts if basis is None else starts @ basis.T
        yield _Fit(
            v[:, :-1],
            v[:, -1],
            max(s.relative_gap for s in solutions),
            max(s.n_iter for s in solutions),
            all(s.converged for s in solutions),
        )


def _liblinear(features: np.ndarray, labels: np.ndarray, k: int, settings: SvmSettings) -> Any:
    """Yield scikit-learn's LinearSVC with its own defaults for each t: what a plain script would run.

    It often stops far from the optimum once t >= 100; the gap says how far.
    """
    n, d = features.shape
    rows = np.column_stack([features, np.ones(n)])
    present = np.unique(labels) if k > 2 else np.array([1])
    for t in settings.t:
        model = LinearSVC(C=t * d / n, random_state=settings.seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(features, labels)
        stopped = any(issubclass(w.category, ConvergenceWarning) for w in caught)
        # A class without training images: the limit of its problem, which says no to everything.
        v = np.tile(np.append(np.zeros(d), -1.0), (1 if k == 2 else k, 1))
        fitted = np.column_stack([model.coef_, model.intercept_])
        if k > 2 and len(present) == 2:  # scikit-learn keeps one row for two classes
            fitted = np.concatenate([-fitted, fitted])
        v[present if k > 2 else [0]] = fitted
        gaps = [
            squared_hinge.relative_gap(rows, np.where(labels == label, 1.0, -1.0), row, t * d / n)
            for label, row in zip(present, fitted, strict=True)
        ]
        converged = not stopped and max(gaps) <= squared_hinge.GAP_LIMIT
        yield _Fit(v[:, :-1], v[:, -1], max(gaps), int(np.max(model.n_iter_)), converged)


def _hinge(features: np.ndarray, labels: np.ndarray, k: int, settings: SvmSettings) -> Any:
    """Yield scikit-learn's SVC(kernel="linear"), one against one, for each t."""
    n, d = features.shape
    rows, basis = squared_hinge.reduce(features)
    present = np.unique(labels)
    for t in settings.t:
        model = SVC(kernel="linear", C=t * d / n, max_iter=LIBSVM_ITERATIONS, cache_size=500)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(rows, labels)
        stopped = any(issubclass(w.category, ConvergenceWarning) for w in caught)
        coef = model.coef_ if basis is None else model.coef_ @ basis.T
        sign = -1 if len(present) == 2 and k > 2 else 1  # scikit-learn turns the sign of binary problems
        coef, intercept = _all_pairs(sign * coef, sign * model.intercept_, present, k)
        yield _Fit(coef, intercept, None, int(np.max(model.n_iter_)), not stopped)


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
