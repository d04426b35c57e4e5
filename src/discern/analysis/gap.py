"""What a score owes to the split: the `image` protocol minus the `group` protocol, with an interval.

The two protocols hold out different images, so single images cannot be paired. The patients (lesions,
slides, slabs) can: the groups of the whole data set are drawn with replacement, and one draw weights
the images of both hold-outs by how often their group was drawn. Patients who are easy or hard under
both protocols then cancel in the difference as far as they are in both hold-outs, and images of one
patient stand or fall together. An image without a group is a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from discern.analysis.compare import (
    Predicted,
    read_groups,
    read_predictions,
    require_same_images,
    resampled_scores,
)
from discern.analysis.metrics import METRICS
from discern.config import CompareSettings
from discern.contracts import GAPS, ContractError, write_table

INTERVAL = (
    "95 % percentile interval of a paired cluster bootstrap: groups of the whole data set are drawn with "
    "replacement, both hold-outs are scored with the same draws, draws that leave one of them empty are "
    "drawn again. For the fold models and the splits as they are: it covers which groups happened to be "
    "in the data set, not another split, training set or seed. None where a hold-out has one group."
)
#: Entries of one block of drawn counts, 32 MB: memory does not grow with the data set.
BLOCK_ENTRIES = 4_000_000
LEAST_UNITS = 2  # a hold-out of one group has nothing to resample


def compare_protocols(
    predictions: Sequence[Path | str],
    manifests: Sequence[Path | str],
    settings: CompareSettings,
    out: Path | str,
) -> None:
    """Write GAPS for every model and data set that was scored by both protocols.

    Models keep the order of ``predictions``. Raises ContractError if the models of a data set and
    protocol were not scored on the same images, or if a manifest or one of its images is missing.
    """
    shelves: dict[str, dict[str, dict[str, Predicted]]] = {}
    for file in predictions:
        (dataset, protocol), cell = read_predictions(file)
        shelves.setdefault(dataset, {}).setdefault(cell.model, {})[protocol] = cell
    groups = dict(read_groups(manifest) for manifest in manifests)
    rows = []
    for dataset, models in shelves.items():
        pairs = [(m["image"], m["group"]) for m in models.values() if {"image", "group"} <= m.keys()]
        if not pairs:
            continue
        if dataset not in groups:
            raise ContractError(f"no manifest of '{dataset}' was given, whose groups are needed")
        for cells in zip(*pairs, strict=True):
            require_same_images(cells)
        rows += [{"dataset": dataset, **row} for row in gaps(pairs, groups[dataset], settings)]
    about = {"settings": settings.model_dump(mode="json"), "interval": INTERVAL} | settings.model_dump(
        include={"n_bootstrap", "seed"}
    )
    write_table(GAPS, out, pa.Table.from_pylist(rows, schema=GAPS.schema()), about)


def gaps(
    pairs: Sequence[tuple[Predicted, Predicted]],
    groups: Mapping[str, str | None],
    settings: CompareSettings,
) -> list[dict[str, Any]]:
    """Rows for every metric and model. ``pairs``: by image, by group; ``groups`` of all images.

    All models see the same draws.
    """
    units, n_units = _units(pairs[0], groups)
    sizes = [len(np.unique(unit)) for unit in units]
    used, places = np.unique(np.concatenate(units), return_inverse=True)
    unit_image, unit_group = np.split(places, [len(units[0])])
    holdouts = [np.isin(used, unit) for unit in units]

    def differences(times: np.ndarray) -> np.ndarray:
        """(image, group) x models x metrics x draws."""
        scores = [
            [
                resampled_scores(cell, unit, times)
                for cell, unit in zip(pair, (unit_image, unit_group), strict=True)
            ]
            for pair in pairs
        ]
        return np.array([[[two[side][m] for m in METRICS] for two in scores] for side in (0, 1)])

    image, group = differences(np.ones((1, len(used))))[..., 0]
    enough = min(sizes) >= LEAST_UNITS
    ends = np.full((2, *image.shape), np.nan)
    if enough:
        blocks = [differences(t) for t in draws(n_units, holdouts, settings)]
        resampled = np.concatenate([two[0] - two[1] for two in blocks], axis=-1)
        ends = np.quantile(resampled, [0.025, 0.975], axis=-1)
    return [
        {
            "metric": metric, "model": one.model, "image": float(image[i, m]), "group": float(group[i, m]),
            "difference": float(image[i, m] - group[i, m]),
            "low": float(ends[0, i, m]) if enough else None,
            "high": float(ends[1, i, m]) if enough else None,
            "n_image": len(one.true), "n_group": len(other.true),
            "units_image": sizes[0], "units_group": sizes[1],
        }
        for m, metric in enumerate(METRICS)
        for i, (one, other) in enumerate(pairs)
    ]  # fmt: skip


def draws(n_units: int, holdouts: Sequence[np.ndarray], settings: CompareSettings) -> Iterator[np.ndarray]:
    """Blocks of drawn counts (draws, units) float64, ``n_bootstrap`` draws of ``n_units`` in all.

    ``holdouts``: masks (units,) of the hold-outs, every unit in at least one. Units of the data set
    that no hold-out holds are drawn too, together, and not returned: so many draws fall outside.
    """
    n = len(holdouts[0])
    shares = np.append(np.full(n, 1 / n_units), (n_units - n) / n_units)
    generator = np.random.default_rng(settings.seed)
    missing, step = settings.n_bootstrap, max(1, BLOCK_ENTRIES // n)
    while missing:
        times = generator.multinomial(n_units, shares, size=min(step, missing))[:, :n]
        times = times[np.all([times[:, mask].any(axis=1) for mask in holdouts], axis=0)]
        missing -= len(times)
        yield times.astype(np.float64)


def _units(
    pair: tuple[Predicted, Predicted], groups: Mapping[str, str | None]
) -> tuple[list[np.ndarray], int]:
    """Unit of every image of both hold-outs, and the number of units of the whole data set."""
    # A group's name cannot hold a line end, so an image id can never meet one.
    unit_of = {image: f"{image}\n" if group is None else group for image, group in groups.items()}
    number = {unit: i for i, unit in enumerate(dict.fromkeys(unit_of.values()))}
    for cell in pair:
        if stranger := next((image for image in cell.image_ids if image not in unit_of), None):
            raise ContractError(f"{cell.file}: image '{stranger}' is not in the manifest")
    return [np.array([number[unit_of[i]] for i in cell.image_ids]) for cell in pair], len(number)
