"""A fitted linear classifier on raw features: decision values and files.

NumPy only, so that an encoder's environment can score features without scikit-learn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from discern.contracts import METADATA_KEY, ContractError, atomic
from discern.errors import problem

PAIRWISE = "hinge_ovo"


@dataclass(frozen=True)
class Classifier:
    """Standardisation and linear functions of one fold's model.

    mean, scale: (d,) float64, of the training part; coef: (rows, d), intercept: (rows,) float64 on
    standardised features. Binary sets have one row (positive: label 1), others a row per class, or for
    hinge_ovo per pair i < j in lexical order (positive: i). classes: names in label order.
    """

    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    classes: tuple[str, ...]
    estimator: str

    def decision(self, features: np.ndarray) -> np.ndarray:
        """Raw features (N, d) of any float type -> decision values (N, k) float64."""
        standardised = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        values = standardised @ self.coef.T + self.intercept
        return decision_values(values, len(self.classes), self.estimator)


def decision_values(values: np.ndarray, k: int, estimator: str) -> np.ndarray:
    """Values of the linear functions (N, rows) -> one decision value per class (N, k).

    Binary: [-f, f]. One function per class: itself. One per pair: scikit-learn's
    ``decision_function_shape="ovr"``, votes plus a confidence that is below 1/3 in size.
    """
    if k == 2:
        return np.hstack([-values, values])
    return _votes(values, k) if estimator == PAIRWISE else values


def pairs(k: int) -> list[tuple[int, int]]:
    """Pairs of labels in the order of a one-against-one classifier's rows."""
    return [(i, j) for i in range(k) for j in range(i + 1, k)]


def _votes(values: np.ndarray, k: int) -> np.ndarray:
    votes = np.zeros((len(values), k))
    confidence = np.zeros((len(values), k))
    for column, (i, j) in zip(values.T, pairs(k), strict=True):
        confidence[:, i] += column
        confidence[:, j] -= column
        votes[:, i] += column >= 0
        votes[:, j] += column < 0
    return votes + confidence / (3 * (np.abs(confidence) + 1))


def predicted_labels(decision: np.ndarray) -> np.ndarray:
    """Decision values (N, k) -> labels (N,) int32; the first class wins ties."""
    return decision.argmax(axis=1).astype(np.int32)


def save_classifiers(path: Path | str, folds: Sequence[Classifier], metadata: dict[str, Any]) -> None:
    """Write the models of all folds (fold f: ``mean.f``, ``scale.f``, ``coef.f``, ``intercept.f``)."""
    from safetensors.numpy import save

    tensors = {
        f"{name}.{fold}": np.ascontiguousarray(getattr(model, name), dtype=np.float64)
        for fold, model in enumerate(folds)
        for name in ("mean", "scale", "coef", "intercept")
    }
    strings = {
        "classes": json.dumps(folds[0].classes),
        "estimator": folds[0].estimator,
        METADATA_KEY.decode(): json.dumps(metadata),
    }
    with atomic(path) as temporary:
        # Not save_file, which writes a file of its own beside this one, and leaves it when it is killed.
        temporary.write_bytes(_ordered(save(tensors, metadata=strings)))


def _ordered(file: bytes) -> bytes:
    """A safetensors file with its strings in order: the library writes them in any, anew in every process.

    The offsets of the tensors count from the header's end, which stands at a multiple of eight.
    """
    stop = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:stop])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    padding = -len(text) % 8
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding + file[stop:]


def load_classifier(path: Path | str, fold: int) -> Classifier:
    """Read one fold's model; raises ContractError for a damaged file, DiscernError for a missing fold."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            folds = sorted(int(key.split(".")[1]) for key in file.keys() if key.startswith("coef."))  # noqa: SIM118
            if fold not in folds:
                raise problem(str(path), f"has no fold {fold}", allowed=folds)
            strings = file.metadata()
            found = Classifier(
                mean=file.get_tensor(f"mean.{fold}"),
                scale=file.get_tensor(f"scale.{fold}"),
                coef=file.get_tensor(f"coef.{fold}"),
                intercept=file.get_tensor(f"intercept.{fold}"),
                classes=tuple(json.loads(strings["classes"])),
                estimator=strings["estimator"],
            )
            _check_shapes(found)
            return found
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{path}: damaged or truncated classifier file ({error})") from error


def _check_shapes(model: Classifier) -> None:
    """ValueError unless arrays and classes fit together."""
    k = len(model.classes)
    if k < 2 or not all(isinstance(name, str) for name in model.classes):
        raise ValueError("classes are not two or more names")
    rows = 1 if k == 2 else len(pairs(k)) if model.estimator == PAIRWISE else k
    d = model.mean.size
    wanted = {"mean": (d,), "scale": (d,), "coef": (rows, d), "intercept": (rows,)}
    for name, shape in wanted.items():
        if (seen := getattr(model, name).shape) != shape:
            raise ValueError(f"{name} is {seen}, not {shape}")
