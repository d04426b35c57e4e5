"""Linear SVMs of one cell: per fold the best t, hold-out scores, predictions and the classifiers.

Protocol of the paper: standardised features, C = t d / N, t chosen per fold by validation macro-F1;
the fold's model, trained on the other folds and not refitted, is scored on the hold-out.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from discern.analysis import metrics
from discern.analysis.cell import Labelled, read_labelled, read_places
from discern.analysis.linear import PAIRWISE, predicted_labels, save_classifiers
from discern.analysis.svm import needs
from discern.analysis.svm.fold import Candidate, Part, best, fit_fold
from discern.config import SvmSettings
from discern.contracts import PREDICTIONS, SCORES, ContractError, write_table
from discern.errors import problem
from discern.free_memory import figured

log = logging.getLogger("discern")


def fit_cell(
    features: Path | str,
    manifest: Path | str,
    splits: Path | str,
    settings: SvmSettings,
    scores: Path | str,
    predictions: Path | str,
    classifier: Path | str,
    *,
    protocol: str,
    positive_class: str = "",
    threads: int = 1,
) -> None:
    """Fit, choose and score all folds; writes SCORES, PREDICTIONS and the classifiers of the folds.

    positive_class: name of the class whose F1 binary sets report, or empty. threads: folds at a time, each
    on one core with its own copy of the training part in float64.
    Raises ContractError if features, manifest and splits do not hold the same images; DiscernError with
    the figure if memory does not hold one fold. Where it holds fewer than ``threads``, fewer are fitted at
    a time, with the same results.
    """
    cell = read_labelled(features, manifest)
    place, split = read_places(splits, cell.image_ids, manifest)
    if (split["dataset"], split["protocol"]) != (cell.dataset, protocol):
        raise ContractError(
            f"{splits}: made for {split['dataset']}, protocol {split['protocol']}; "
            f"asked for {cell.dataset}, protocol {protocol}"
        )
    positive = _positive(cell, positive_class, manifest)
    test = place < 0
    folds = sorted(set(place[~test].tolist()))
    where, n_train = f"{cell.model} on {cell.dataset}", int((~test).sum() - np.bincount(place[~test]).max())
    size = (n_train, cell.features.shape[1], len(cell.classes))
    at_once = needs.workers(where, *size, settings, max(1, min(threads, len(folds))))

    def fitted(fold: int) -> tuple[dict[str, Any], Candidate, np.ndarray]:
        return fit_one(cell, place, fold, settings, positive)

    enough = figured(where, f"the SVMs of {at_once} folds", at_once * needs.of_fold(*size, settings))
    with enough, threadpool_limits(1), ThreadPoolExecutor(at_once) as pool:
        done = tqdm(pool.map(fitted, folds), "folds", len(folds), file=sys.stderr, mininterval=10)
        rows, chosen, decisions = map(list, zip(*done, strict=True))
    about = _metadata(cell, split, settings, positive_class, min(row["n_train"] for row in rows))
    table = pa.Table.from_pylist(rows, schema=SCORES.schema())
    write_table(SCORES, scores, table, about)
    ids = [image for image, held in zip(cell.image_ids, test, strict=True) if held]
    write_table(PREDICTIONS, predictions, _predictions(ids, cell.labels[test], decisions), about)
    save_classifiers(classifier, [candidate.classifier for candidate in chosen], about)


def fit_one(
    cell: Labelled, place: np.ndarray, fold: int, settings: SvmSettings, positive: int | None
) -> tuple[dict[str, Any], Candidate, np.ndarray]:
    """A fold's row of SCORES, its model, and the model's decision values on the hold-out.

    Folds know nothing of each other: one could start from another's solution, but what is learnt from a
    fold's training part would then depend, in the last digits, on images outside it.
    """
    test, held = place < 0, place == fold
    train = ~test & ~held
    candidates = fit_fold(
        Part(cell.features[train], cell.labels[train]),
        Part(cell.features[held], cell.labels[held]),
        cell.classes,
        settings,
        f"{cell.model} on {cell.dataset}, fold {fold}",
    )
    chosen = best(candidates, settings)
    decision = chosen.classifier.decision(cell.features[test])
    row = {
        "fold": fold,
        "estimator": settings.estimator,
        **_fit_columns(chosen, candidates),
        "n_train": int(train.sum()),
        "n_validation": int(held.sum()),
        "n_test": int(test.sum()),
        "d": cell.features.shape[1],
        **hold_out_scores(cell.labels[test], decision, positive),
    }
    log.info("fold %d: t = %g, macro-F1 %.4f", fold, row["t"], row["macro_f1"])
    return row, chosen, decision


def hold_out_scores(true: np.ndarray, decision: np.ndarray, positive: int | None) -> dict[str, Any]:
    """Labels (N,) and decision values (N, k) -> the score columns of SCORES, in 0..1."""
    k = decision.shape[1]
    counts = metrics.count(true, predicted_labels(decision), k)
    class_f1 = metrics.class_f1(counts)
    return {
        "accuracy": float(metrics.accuracy(counts)),
        "macro_f1": float(metrics.macro_f1(counts)),
        "balanced_accuracy": float(metrics.balanced_accuracy(counts)),
        "auroc": _auroc(true, decision),
        "positive_f1": None if positive is None else float(class_f1[positive]),
        "class_f1": class_f1.tolist(),
    }


def _auroc(true: np.ndarray, decision: np.ndarray) -> float | None:
    """One class against the rest, mean over the classes; None if a class is missing."""
    k = decision.shape[1]
    if len(np.unique(true)) < k:
        return None
    columns = [1] if k == 2 else range(k)
    return float(np.mean([metrics.auroc(true == c, decision[:, c]) for c in columns]))


def _positive(cell: Labelled, name: str, manifest: Path | str) -> int | None:
    """Label of the positive class, None without one."""
    if not name:
        return None
    if name not in cell.classes or len(cell.classes) != 2:
        raise problem(
            str(manifest),
            f"positive class '{name}' needs a set of two classes, of which it is one",
            allowed=cell.classes,
            repair="correct positive_class in the data set's card",
        )
    return cell.classes.index(name)


def _fit_columns(chosen: Candidate, candidates: list[Candidate]) -> dict[str, Any]:
    columns = {name: chosen.record[name] for name in ("t", "C", "relative_gap", "converged")}
    return columns | {"validation": [candidate.record for candidate in candidates]}


def _predictions(ids: list[str], true: np.ndarray, decisions: list[np.ndarray]) -> pa.Table:
    """All folds below each other; decisions are (N, k) per fold."""
    folds, n, k = len(decisions), len(ids), decisions[0].shape[1]
    values = np.concatenate(decisions)
    offsets = pa.array(np.arange(0, values.size + 1, k, dtype=np.int32))
    columns = {
        "image_id": pa.array(ids * folds, pa.string()),
        "fold": pa.array(np.repeat(np.arange(folds), n), pa.int8()),
        "true": pa.array(np.tile(true, folds), pa.int32()),
        "predicted": pa.array(predicted_labels(values), pa.int32()),
        "decision": pa.ListArray.from_arrays(offsets, pa.array(values.ravel())),
    }
    return pa.table(columns)


def _metadata(
    cell: Labelled, split: dict[str, Any], settings: SvmSettings, positive_class: str, n_train: int
) -> dict[str, Any]:
    d = cell.features.shape[1]
    return {
        "model": cell.model,
        "dataset": cell.dataset,
        "protocol": split["protocol"],
        "classes": list(cell.classes),
        "positive_class": positive_class or None,
        "d": d,
        "estimator": settings.estimator,
        "estimator_parameters": _estimator_parameters(settings, d, n_train),
        "settings": settings.model_dump(mode="json"),
        "split": {key: split.get(key) for key in ("holdout", "folds", "seed", "group_key")},
        "features_fingerprint": cell.about_features.get("fingerprint"),
        "weights_digest": cell.about_features.get("weights_digest"),
        "seconds": "CPU seconds of one fit over all classes",
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "scikit-learn")},
    }


def _estimator_parameters(settings: SvmSettings, d: int, n_train: int) -> dict[str, Any]:
    """What to give LinearSVC or SVC, beside C, to reproduce a fit without this package.

    LinearSVC's tolerance is on slacks, which the gradient multiplies by 2C: hence divided by the largest.
    """
    if settings.estimator == PAIRWISE:
        return {"kernel": "linear", "break_ties": True}  # equal votes: the sum of the margins decides
    if settings.solver == "liblinear":
        return {"random_state": settings.seed}
    largest = settings.t[-1] * d / n_train
    return {
        "loss": "squared_hinge",
        "dual": n_train <= d,
        "tol": 1e-6 / largest,
        "max_iter": 50_000,
        "random_state": settings.seed,
    }
