"""Inputs of the SVM benchmarks, and LinearSVC on single one-against-rest problems of them."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

RESULTS = Path(__file__).resolve().parents[1] / "results"
TS = (1, 10, 100, 1000, 10000)
#: Feature lengths: a ViT-L or ResNet tower, and for two sets a ViT-B as well.
LENGTHS = {"breastus": (768, 1024), "isic2019": (768,)}
SHARE = 0.64  # of the images: what is left for training by a hold-out of 20 % and five folds


class Case(NamedTuple):
    """The training part of a fold: raw features (N, d) float32, labels (N,); the rest for predictions."""

    features: np.ndarray
    labels: np.ndarray
    other_features: np.ndarray
    other_labels: np.ndarray
    k: int


class Problems(NamedTuple):
    """rows (N, d + 1) standardised with the constant column, targets (k or 1, N), C of each t."""

    rows: np.ndarray
    targets: np.ndarray
    costs: list[float]


def planted(n: int, d: int, k: int, distance: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) float32 and labels (n,): classes in random directions, correlated noise.

    The spectrum decays in a rotated basis, so that standardising the columns does not undo it. At 0.1
    the classes overlap, and the scores are those of the paper's harder sets; at 1 they are separable.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    spectrum = 1 / np.sqrt(1 + np.arange(d))
    features = (distance * rng.normal(size=(k, d))[labels] + 1.5 * rng.normal(size=(n, d))) * spectrum
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (features @ rotation).astype(np.float32), labels


def case(n: int, d: int, k: int, distance: float = 0.1) -> Case:
    """One fold of a data set of n images."""
    x, y = planted(n, d, k, distance)
    cut = int(n * SHARE)
    return Case(x[:cut], y[:cut], x[cut:], y[cut:], k)


def problems(part: Case) -> Problems:
    """As the fold code makes them."""
    n, d = part.features.shape
    scaled = StandardScaler().fit_transform(part.features.astype(np.float64))
    positives = np.array([1]) if part.k == 2 else np.arange(part.k)
    targets = np.where(part.labels == positives[:, None], 1.0, -1.0)
    return Problems(np.column_stack([scaled, np.ones(n)]), targets, [t * d / n for t in TS])


def other_rows(part: Case) -> np.ndarray:
    """The images outside the training part, (M, d + 1), standardised as that is."""
    scaler = StandardScaler().fit(part.features.astype(np.float64))
    scaled = scaler.transform(part.other_features.astype(np.float64))
    return np.column_stack([scaled, np.ones(len(scaled))])


def linear_svc(rows: np.ndarray, target: np.ndarray, C: float, **options) -> np.ndarray:
    """v (d + 1,) of LinearSVC on one problem."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LinearSVC(C=C, random_state=0, **options).fit(rows[:, :-1], target)
    return np.append(model.coef_[0], model.intercept_)


def objectives(rows: np.ndarray, targets: np.ndarray, v: np.ndarray, C: float) -> np.ndarray:
    """P(v) of k problems."""
    slack = np.maximum(0, 1 - targets * (v @ rows.T))
    return 0.5 * (v * v).sum(axis=1) + C * (slack * slack).sum(axis=1)


def demo_cases() -> Iterator[tuple[str, str, Case]]:
    """(data set, model, fold 0) of a finished demonstration in ``results/``; nothing without one."""
    from discern.analysis.cell import read_labelled, read_places
    from discern.errors import DiscernError

    for splits in sorted((RESULTS / "demo" / "splits").glob("*/image.parquet")):
        dataset = splits.parent.name
        manifest = RESULTS / "shared" / "manifests" / f"{dataset}.parquet"
        for features in sorted((RESULTS / "shared" / "features" / dataset).glob("*.parquet")):
            try:
                cell = read_labelled(features, manifest)
                place, _ = read_places(splits, cell.image_ids, manifest)
            except DiscernError:  # made by another version
                continue
            # Manifests are sorted, by class as well: in order, a share of a part would lack classes.
            train = np.random.default_rng(0).permutation(np.flatnonzero(place > 0))
            test = place < 0
            parts = (cell.features[train], cell.labels[train], cell.features[test], cell.labels[test])
            yield dataset, features.stem, Case(*parts, len(cell.classes))
