"""Pairs of models on the same hold-out: difference, and a paired bootstrap interval."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from discern.analysis.metrics import METRICS, Counts
from discern.config import CompareSettings
from discern.contracts import COMPARISONS, MANIFEST, PREDICTIONS, ContractError, read_table, write_table

PORTION = 2**22  # draws that are held at once, 32 MiB

INTERVAL = (
    "95 % percentile interval of a paired bootstrap over the hold-out images (whole groups under the group "
    "protocol) for the fold models as they are: it covers which images happened to be held out, not another "
    "split, training set or seed, and is not corrected for the number of pairs."
)


class Predicted(NamedTuple):
    """Predictions of one cell: image_ids (N), true (N,), predicted (folds, N), number of classes."""

    file: str
    model: str
    image_ids: list[str]
    true: np.ndarray
    predicted: np.ndarray
    k: int


def compare_models(
    predictions: Sequence[Path | str],
    manifests: Sequence[Path | str],
    settings: CompareSettings,
    out: Path | str,
) -> None:
    """Compare every pair of models on every data set and protocol; writes COMPARISONS.

    Models keep the order of ``predictions``; a single model makes an empty table. Raises ContractError
    if two models of a data set and protocol were not scored on the same images.
    """
    shelves: dict[tuple[str, str], list[Predicted]] = {}
    for file in predictions:
        key, cell = read_predictions(file)
        shelves.setdefault(key, []).append(cell)
    groups = dict(read_groups(manifest) for manifest in manifests)
    rows = []
    for (dataset, protocol), cells in shelves.items():
        require_same_images(cells)
        if protocol == "group" and dataset not in groups:
            raise ContractError(f"no manifest of '{dataset}' was given, whose groups are needed")
        known = groups[dataset] if protocol == "group" else {}
        units = [known.get(image) or f"image {image}" for image in cells[0].image_ids]
        for row in compare_cells(cells, units, settings):
            rows.append({"dataset": dataset, "protocol": protocol, **row})
    about = {"settings": settings.model_dump(mode="json"), "interval": INTERVAL} | settings.model_dump(
        include={"n_bootstrap", "seed"}
    )
    write_table(COMPARISONS, out, pa.Table.from_pylist(rows, schema=COMPARISONS.schema()), about)


def compare_cells(
    cells: Sequence[Predicted], units: Sequence[str], settings: CompareSettings
) -> list[dict[str, Any]]:
    """Rows for every metric and pair. ``units`` (N) name what is resampled together, an image or a group.

    All models see the same resamples, so that what images share cancels in the differences.
    """
    if len(cells) < 2:
        return []
    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    n_units = int(unit.max()) + 1
    portions: list[list[dict[str, np.ndarray]]] = [[] for _ in cells]
    for times in resamples(n_units, settings):
        for found, cell in zip(portions, cells, strict=True):
            found.append(resampled_scores(cell, unit, times))
    scores = [{name: np.concatenate([p[name] for p in found]) for name in METRICS} for found in portions]
    rows = []
    for metric in METRICS:
        for a, b in itertools.combinations(range(len(cells)), 2):
            differences = scores[a][metric] - scores[b][metric]
            low, high = np.quantile(differences[1:], [0.025, 0.975])
            rows.append(
                {
                    "metric": metric,
                    "model_a": cells[a].model,
                    "model_b": cells[b].model,
                    "difference": float(differences[0]),
                    "low": float(low),
                    "high": float(high),
                    "n_test": len(cells[a].true),
                }
            )
    return rows


def resamples(n_units: int, settings: CompareSettings) -> Iterator[np.ndarray]:
    """How often each unit is drawn: portions of float64 (resamples, units), the hold-out itself first.

    Portions bound the memory, and change nothing: the draws are those of one call for all resamples.
    """
    yield np.ones((1, n_units))
    generator = np.random.default_rng(settings.seed)
    size = max(1, PORTION // n_units)
    for start in range(0, settings.n_bootstrap, size):
        draws = generator.integers(n_units, size=(min(size, settings.n_bootstrap - start), n_units))
        yield np.array([np.bincount(draw, minlength=n_units) for draw in draws], dtype=np.float64)


def resampled_scores(cell: Predicted, unit: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> mean over the fold models (resamples,).

    ``unit`` (N,) is the column of ``times`` of each image; ``times`` (resamples, units) counts the draws.
    """
    n_units = times.shape[1]

    def total(labels: np.ndarray, where: np.ndarray) -> np.ndarray:
        table = np.bincount(unit[where] * cell.k + labels[where], minlength=n_units * cell.k)
        return times @ table.reshape(n_units, cell.k)

    everywhere = np.ones(len(cell.true), dtype=bool)
    true = total(cell.true, everywhere)
    folds = [
        Counts(total(cell.true, cell.true == predicted), true, total(predicted, everywhere))
        for predicted in cell.predicted
    ]
    return {name: np.mean([metric(counts) for counts in folds], axis=0) for name, metric in METRICS.items()}


def read_predictions(file: Path | str) -> tuple[tuple[str, str], Predicted]:
    """Predictions of one cell, images in sorted order, with its data set and protocol."""
    table, about = read_table(PREDICTIONS, file)
    table = table.sort_by([("fold", "ascending"), ("image_id", "ascending")])
    n, uneven = divmod(len(table), len(table["fold"].unique()))
    if uneven:
        raise ContractError(f"{file}: its folds were not scored on the same images")
    ids, true = table["image_id"].to_numpy().reshape(-1, n), table["true"].to_numpy().reshape(-1, n)
    if (ids != ids[0]).any() or (true != true[0]).any():
        raise ContractError(f"{file}: its folds were not scored on the same images")
    cell = Predicted(
        str(file),
        about["model"],
        ids[0].tolist(),
        true[0],
        table["predicted"].to_numpy().reshape(-1, n),
        len(about["classes"]),
    )
    return (about["dataset"], about["protocol"]), cell


def read_groups(manifest: Path | str) -> tuple[str, dict[str, str | None]]:
    """Data set of a manifest, and image id -> group, None where it is unknown."""
    table, about = read_table(MANIFEST, manifest)
    return about["dataset"], dict(zip(table["image_id"].to_pylist(), table["group"].to_pylist(), strict=True))


def require_same_images(cells: Sequence[Predicted]) -> None:
    """Raise ContractError unless all cells were scored on the same images with the same labels."""
    first = cells[0]
    for cell in cells[1:]:
        if odd := set(cell.image_ids) ^ set(first.image_ids):
            raise ContractError(f"{cell.file} and {first.file}: image '{min(odd)}' is in only one of them")
        if (cell.true != first.true).any():
            raise ContractError(f"{cell.file} and {first.file}: true labels differ")
        if len(cell.predicted) != len(first.predicted):
            raise ContractError(f"{cell.file} and {first.file}: numbers of folds differ")
