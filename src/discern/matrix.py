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
    volumetric_data = dataset.modality.endswith("volume")
    if model.volumetric and not volumetric_data:
        return "not applicable: volumetric model, 2D data set"
    if volumetric_data and not model.volumetric:
        return "not applicable: 2D model, volumetric data set"
    return ""


def cells(study: Study, registry: Registry) -> list[Cell]:
    """Every pair of the study in the order of its lists, runnable or not."""
    return [
        Cell(m, d, inapplicable(registry.models[m], registry.datasets[d]))
        for d in study.datasets
        for m in study.models
    ]


def protocols(study: Study, dataset: DatasetCard) -> list[str]:
    """Split protocols that this data set allows: `group` needs a group key."""
    return [p for p in study.split.protocols if p != "group" or dataset.group_key]
