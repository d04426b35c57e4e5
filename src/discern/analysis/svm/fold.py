"""One fold: a linear SVM for every t, chosen on the validation part.

The hold-out never enters this module, so nothing here can be fitted or chosen on it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from discern.analysis.linear import PAIRWISE, Classifier, predicted_labels
from discern.analysis.metrics import METRICS, count
from discern.analysis.svm import scikit
from discern.analysis.svm.path import solve_path
from discern.analysis.svm.squared_hinge import GAP_LIMIT
from discern.config import SvmSettings
from discern.errors import DiscernError, problem

log = logging.getLogger("discern")


class Part(NamedTuple):
    """Raw features (N, d) float32 and labels (N,)."""

    features: np.ndarray
    labels: np.ndarray


class Candidate(NamedTuple):
    """The classifier of one t and its row of ``validation``."""

    classifier: Classifier
    record: dict[str, Any]


def fit_fold(
    train: Part, validation: Part, classes: tuple[str, ...], settings: SvmSettings, name: str = ""
) -> list[Candidate]:
    """Fit every t on ``train`` (C = t d / N) and score it on ``validation``; seconds are CPU seconds.

    ``name`` names the fold in messages. Raises DiscernError if ``train`` holds a single class, or if the
    exact solver leaves a gap above GAP_LIMIT: its certificate is what the scores rest on. scikit-learn's
    own solvers, chosen by name, warn instead: stopping early is how they behave.
    """
    if len(np.unique(train.labels)) < 2:
        raise DiscernError(f"{name}: the training part holds a single class, nothing can be learnt")
    n, d = train.features.shape
    rows = np.ones((n, d + 1))
    rows[:, :d] = train.features
    mean, scale = standardisation(rows[:, :d])
    rows[:, :d] -= mean
    rows[:, :d] /= scale
    squared = scikit.liblinear if settings.solver == "liblinear" else _newton
    fits = scikit.hinge if settings.estimator == PAIRWISE else squared
    candidates = []
    for t, fit in zip(settings.t, fits(rows, train.labels, len(classes), settings), strict=True):
        if not fit.converged:
            _report(f"{name}, t = {t:g}", fit, exact=fits is _newton)
        classifier = Classifier(mean, scale, fit.coef, fit.intercept, classes, settings.estimator)
        predicted = predicted_labels(classifier.decision(validation.features))
        counts = count(validation.labels, predicted, len(classes))
        record = {
            "t": float(t),
            "C": t * d / n,
            **{metric: float(score(counts)) for metric, score in METRICS.items()},
            **{column: getattr(fit, column) for column in ("relative_gap", "n_iter", "converged", "seconds")},
        }
        candidates.append(Candidate(classifier, record))
    return candidates


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, d) float64 -> mean and scale (d,), to the last bit those of scikit-learn's StandardScaler.

    The deviation is that of the population, by two passes with the correction for the mean's rounding
    (Chan, Golub & LeVeque, 1983); a column whose variance is within the error of that sum is constant
    and keeps the scale 1.
    """
    n = len(features)
    mean = features.sum(axis=0) / n
    centred = features - mean
    drift = centred.sum(axis=0)
    centred *= centred
    variance = (centred.sum(axis=0) - drift**2 / n) / n
    epsilon = np.finfo(np.float64).eps
    constant = variance <= n * epsilon * variance + (n * mean * epsilon) ** 2
    return mean, np.where(constant, 1.0, np.sqrt(np.maximum(0, variance)))


def best(candidates: list[Candidate], settings: SvmSettings) -> Candidate:
    """The highest validation score; the smallest t wins ties."""
    return max(candidates, key=lambda c: (c.record[settings.selection], -c.record["t"]))


def _newton(rows: np.ndarray, labels: np.ndarray, k: int, settings: SvmSettings) -> Iterator[scikit.Fit]:
    """Yield the exact fit of each t; the gap is the largest of the classes."""
    n, d = len(rows), rows.shape[1] - 1
    positives = np.array([1]) if k == 2 else np.arange(k)
    targets = np.where(labels == positives[:, None], 1.0, -1.0)
    costs = [t * d / n for t in settings.t]
    path = solve_path(rows, targets, costs, tolerance=settings.tolerance, max_iter=settings.max_iter)
    for v, gaps, n_iter, seconds in zip(*path, strict=True):
        gap = float(gaps.max())
        yield scikit.Fit(v[:, :-1], v[:, -1], gap, int(n_iter.max()), gap <= GAP_LIMIT, float(seconds))


def _report(where: str, fit: scikit.Fit, *, exact: bool) -> None:
    """Name a fit that did not converge; raises DiscernError for the exact solver."""
    text = f"not converged after {fit.n_iter} steps, relative gap {fit.relative_gap}"
    if not exact:
        log.warning("%s: %s", where, text)
        return
    raise problem(
        where,
        text,
        allowed=[f"at most {GAP_LIMIT:g}"],
        repair="raise svm.max_iter, or leave out extreme values of svm.t",
    )
