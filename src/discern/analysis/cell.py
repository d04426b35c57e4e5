"""The inputs of a cell: features, labels, groups and folds of the same images in the same order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from discern.contracts import FEATURES, MANIFEST, SPLITS, ContractError, feature_matrix, read_table
from discern.free_memory import require


@dataclass(frozen=True)
class Labelled:
    """image_ids (N) in manifest order; features (N, d) float32; labels (N,) int32 into classes."""

    image_ids: list[str]
    features: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    dataset: str
    about_features: dict[str, Any]

    @property
    def model(self) -> str:
        """Name of the encoder."""
        return str(self.about_features["model"])


def read_labelled(features: Path | str, manifest: Path | str) -> Labelled:
    """Join features with the manifest's labels; raises ContractError if the images differ."""
    images, about = read_table(MANIFEST, manifest)
    require(str(features), "reading the features", 3 * _unpacked(features))  # pages, table, rows wanted
    vectors, about_features = read_table(FEATURES, features)
    ids = images["image_id"].to_pylist()
    # A reading of a data set may be a subset of the images whose features it shares.
    order = _rows(vectors["image_id"].to_pylist(), ids, features, manifest)
    return Labelled(
        ids,
        feature_matrix(vectors)[order],
        images["label"].to_numpy(),
        tuple(about["classes"]),
        about["dataset"],
        about_features,
    )


def read_places(
    splits: Path | str, ids: list[str], manifest: Path | str
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fold of each image (N,) int64, -1 for the hold-out, in the order of ``ids``; and the metadata."""
    table, about = read_table(SPLITS, splits)
    found = table["image_id"].to_pylist()
    order = _rows(found, ids, splits, manifest)
    if len(found) != len(ids):
        extra = next(image for image in found if image not in set(ids))
        raise ContractError(f"{manifest}: image '{extra}' of {splits} is missing")
    test = np.array([role == "test" for role in table["role"].to_pylist()])
    folds = np.array([-1 if fold is None else fold for fold in table["fold"].to_pylist()])
    if (test != (folds < 0)).any():
        raise ContractError(f"{splits}: exactly the hold-out images must have no fold")
    return folds[order], about


def _unpacked(file: Path | str) -> int:
    """Bytes of a Parquet file's columns in memory; 0 where the file cannot be read, which its reader says."""
    try:
        about = pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        return 0
    return sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))


def _rows(found: list[str], wanted: list[str], file: Path | str, manifest: Path | str) -> list[int]:
    """Rows of ``found`` in the order of ``wanted``, each of which must be there."""
    row = {image: index for index, image in enumerate(found)}
    if missing := next((image for image in wanted if image not in row), None):
        raise ContractError(f"{file}: image '{missing}' of {manifest} is missing")
    return [row[image] for image in wanted]
