"""Scores from counts per class, for one classifier or thousands of resamples at once. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """Per class, arrays (..., k): images hit, images of the class, images predicted as the class."""

    hits: np.ndarray
    true: np.ndarray
    predicted: np.ndarray


def count(true: np.ndarray, predicted: np.ndarray, k: int) -> Counts:
    """Labels (N,) and (N,) -> counts (k,)."""
    hits = true[true == predicted]
    return Counts(*(np.bincount(labels, minlength=k) for labels in (hits, true, predicted)))


def class_f1(counts: Counts) -> np.ndarray:
    """F1 per class (..., k); NaN for a class neither present nor predicted."""
    return _ratio(2.0 * counts.hits, counts.true + counts.predicted)


def macro_f1(counts: Counts) -> np.ndarray:
    """Mean F1 (...) over the classes present or predicted, which is scikit-learn's macro average."""
    return np.nanmean(class_f1(counts), axis=-1)


def accuracy(counts: Counts) -> np.ndarray:
    """Share of correct predictions (...)."""
    return counts.hits.sum(axis=-1) / counts.true.sum(axis=-1)


def balanced_accuracy(counts: Counts) -> np.ndarray:
    """Mean recall (...) over the classes present."""
    return np.nanmean(_ratio(counts.hits, counts.true), axis=-1)


def auroc(positive: np.ndarray, values: np.ndarray) -> float:
    """Area under the ROC curve of decision values (N,) for the images ``positive`` (N,) bool.

    The share of pairs (one image of the class, one not) in the right order, ties counting one half: the
    Mann-Whitney statistic, counted in integers. NaN without an image on either side.
    """
    _, place, repeats = np.unique(values, return_inverse=True, return_counts=True)
    doubled_ranks = 2 * np.cumsum(repeats) - repeats + 1  # twice the mid-rank of each distinct value
    n, m = int(positive.sum()), int((~positive).sum())
    doubled_wins = int(doubled_ranks[place][positive].sum()) - n * (n + 1)
    return doubled_wins / (2 * n * m) if n and m else float("nan")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


#: Scores that may select t and that models are compared by.
METRICS = {"accuracy": accuracy, "macro_f1": macro_f1}
