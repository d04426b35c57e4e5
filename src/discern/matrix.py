"""Which cells exist: models x data sets x protocols, minus those that make no sense, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from discern.config import Study
from discern.dataset_card import DatasetCard
from discern.model_card import ModelCard
from discern.registry import Registry


@dataclass(frozen=True)
class Cell:
    """One model on one data set. ``reason`` says why an inapplicable cell is not run."""

    model: str
    dataset: str
    reason: str = ""

    @property
    def runs(self) -> bool:
        """True when the cell is to be made."""
        return not self.reason


def inapplicable(model: ModelCard, dataset: DatasetCard) -> str:
    """Why this pair is not run, or an empty string."""
    if model.volumetric and not dataset.volumetric:
        why = f" ({model.volume_note})" if model.volume_note else ""
        return f"not applicable: volumetric model, 2D data set{why}"
    if dataset.volumetric and not model.volumetric:
        return "not applicable: 2D model, volumetric data set"
    return ""


def unexplained(dataset: DatasetCard) -> str:
    """Why RISE is not run on a data set, or an empty string."""
    # Its masks are grids over a picture, and thousands of passes over a volume would take days.
    return "not applicable: RISE masks pictures, these are volumes" if dataset.volumetric else ""


def cells(study: Study, registry: Registry) -> list[Cell]:
    """Every pair of the study in the order of its lists, runnable or not."""
    return [
        Cell(m, d, inapplicable(registry.models[m], registry.datasets[d]))
        for d in study.datasets
        for m in study.models
    ]


def explained(study: Study, registry: Registry) -> list[str]:
    """The data sets on which RISE is run."""
    return [d for d in study.selected(study.rise.datasets) if not unexplained(registry.datasets[d])]


def protocols(study: Study, dataset: DatasetCard) -> list[str]:
    """Split protocols that this data set allows: `group` needs a group key."""
    return [p for p in study.split.protocols if p != "group" or dataset.group_key]
