"""What a study lacks before its first job runs: wrong cards, and inputs that only a person can bring.

Shown at the start of every run and dry run. Nothing here opens an image, a weight file or the
network, and nothing heavy is imported: the workflow's own process calls it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from discern import paths
from discern.config import Study, check_remote_code
from discern.data.originals.fetch import hub_token
from discern.data.originals.fetch import missing as missing_dataset
from discern.dataset_card import DatasetCard
from discern.encoders.weights import missing as missing_weights
from discern.environments import check_lock, read_environment
from discern.errors import DiscernError, problem
from discern.matrix import cells
from discern.model_card import ModelCard
from discern.registry import Registry
from discern.sources import HubFile

ENVIRONMENTS = Path("envs")


@dataclass(frozen=True)
class Missing:
    """One input that is neither here nor fetched automatically."""

    kind: str  # 'data set' or 'weights'
    name: str
    need: str  # what is needed and how to get it
    place: str  # folder that takes the files; empty if the card or the account must change instead


def weights_folder(card: ModelCard) -> Path:
    """Where the weight files of a model lie."""
    return Path(paths.WEIGHTS_FETCHED.format(model=card.name)).parent


def dataset_need(card: DatasetCard, place: str) -> str | None:
    """What a person must do for this data set, or None if it is at ``place`` or comes by itself."""
    return missing_dataset(card, Path(place), Path(paths.DATASET_FETCHED.format(dataset=card.name)))


def weights_need(card: ModelCard) -> str | None:
    """What a person must do for these weights, or None if they are here or come by themselves."""
    source = card.weights
    if isinstance(source, HubFile) and source.gated and hub_token():
        # Whether access was granted shows only at the download.
        source = source.model_copy(update={"gated": False})
    return missing_weights(card.model_copy(update={"weights": source}))


def missing_inputs(study: Study, registry: Registry) -> list[Missing]:
    """Data sets, then weights, that a person must bring, in the order of the study's lists.

    What no cell needs, such as the weights of a volumetric model in a study of pictures, is not missed.
    """
    found = []
    running = [cell for cell in cells(study, registry) if cell.runs]
    datasets, models = {cell.dataset for cell in running}, {cell.model for cell in running}
    for name in dict.fromkeys(registry.datasets.owner(d) for d in study.datasets if d in datasets):
        place = study.place(name)
        if need := dataset_need(registry.datasets[name], place):
            found.append(Missing("data set", name, need, place))
    for name in (m for m in study.models if m in models):
        model = registry.models[registry.models.owner(name)]
        if need := weights_need(model):
            by_hand = not isinstance(model.weights, HubFile)
            found.append(Missing("weights", name, need, str(weights_folder(model)) if by_hand else ""))
    return found


def report(missing: list[Missing]) -> str:
    """The missing inputs as a block of text; one line if nothing is missing."""
    if not missing:
        return "inputs: all are here or are fetched automatically"
    lines = [f"inputs: {len(missing)} must be brought by a person; the cells that need them fail, others run"]
    for item in missing:
        first, *rest = item.need.removeprefix(f"{item.kind} '{item.name}': ").splitlines()
        lines.append(f"  {item.kind} {item.name}: {first}")
        lines += [f"      {line.strip()}" for line in rest]
        if item.place and item.place not in item.need:
            lines.append(f"      place: {item.place}{os.sep}")
    lines.append("  the same list with everything else that matters: python -m discern doctor")
    return "\n".join(lines)


def check_cards(study: Study, registry: Registry) -> None:
    """Read every card of the study and the environments they name; DiscernError lists all mistakes."""
    mistakes = []
    for shelf, names in ((registry.models, study.models), (registry.datasets, study.datasets)):
        for name in names:
            try:
                card = shelf[name]
                if isinstance(card, ModelCard):
                    check_environment(card, registry)
                    check_remote_code(card, study, registry)
            except DiscernError as error:
                mistakes.append(str(error))
    if mistakes:
        raise DiscernError("\n".join(dict.fromkeys(mistakes)))


def check_environment(card: ModelCard, registry: Registry) -> None:
    """DiscernError unless the card's environment exists and every package in it is pinned."""
    file = ENVIRONMENTS / f"{card.environment}.yaml"
    if not file.is_file():
        known = sorted(f.stem for f in ENVIRONMENTS.glob("*.yaml"))
        raise problem(
            str(registry.models.file(card.name)),
            f"environment: found '{card.environment}', but {file} does not exist",
            allowed=known,
            repair=f"name one of these, or write {file}",
        )
    read_environment(file)
    check_lock(file)


def summary(study: Study, registry: Registry) -> str:
    """Size of the study and what it lacks: printed before anything runs."""
    every = cells(study, registry)
    idle = [cell for cell in every if not cell.runs]
    head = (
        f"study {study.study}: {len(study.models)} models x {len(study.datasets)} data sets, "
        f"{len(every) - len(idle)} cells"
    )
    if idle:
        head += f" ({len(idle)} more do not apply)"
    return f"{head}\n{report(missing_inputs(study, registry))}"
