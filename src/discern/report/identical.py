"""Which models of a study have the same features, in sentences for tables and report."""

from __future__ import annotations

from pathlib import Path

from discern import paths
from discern.config import Study
from discern.contracts import IDENTICAL_SHAPE, ContractError, read_record
from discern.matrix import cells
from discern.model_card import ModelCard
from discern.registry import Registry
from discern.sources import HubFile, Library, UrlFile


def identical_models(study: Study, registry: Registry, root: Path) -> list[str]:
    """One sentence per model whose features coincide with those of an earlier one of the study.

    Data sets whose comparison is missing (after a failure) are left out of what is said.
    """
    same: dict[tuple[str, str], dict[str, tuple[str, float]]] = {}
    compared: dict[tuple[str, str], list[str]] = {}
    for dataset in dict.fromkeys(c.dataset for c in cells(study, registry) if c.runs):
        try:
            content = read_record(
                root / paths.IDENTICAL.format(study=study.study, dataset=dataset), IDENTICAL_SHAPE
            )
        except ContractError:
            continue
        for pair in content["pairs"]:
            models = (pair["a"], pair["b"])
            if not set(models) <= set(study.models):  # a file from before a model was taken out
                continue
            compared.setdefault(models, []).append(dataset)
            if pair["same"]:
                same.setdefault(models, {})[dataset] = (pair["same"], pair["difference"])
    order = {m: i for i, m in enumerate(study.models)}
    return [
        _sentence(a, b, found, compared[a, b], registry)
        for (a, b), found in sorted(same.items(), key=lambda p: (order[p[0][0]], order[p[0][1]]))
        if not _follows(a, b, same)
    ]


def _follows(a: str, b: str, same: dict[tuple[str, str], dict[str, tuple[str, float]]]) -> bool:
    """Is it said already, because both are identical to a third model on the same data sets?"""
    sets = same[a, b].keys()
    thirds = [first for first, second in same if second == a]
    return any(sets <= same[c, a].keys() and sets <= same.get((c, b), {}).keys() for c in thirds)


def _sentence(
    a: str, b: str, found: dict[str, tuple[str, float]], compared: list[str], registry: Registry
) -> str:
    if len(found) == len(compared):
        where = "all data sets" if len(found) > 1 else next(iter(found))
    else:
        where = f"{', '.join(found)} ({len(found)} of {len(compared)} data sets)"
    rounded = [difference for kind, difference in found.values() if kind == "rounding"]
    degree = f"up to rounding (differences of {100 * max(rounded):.2g} %)" if rounded else "to the last bit"
    shared = sorted(origins(registry.models[a]) & origins(registry.models[b]))
    both = f"; both read {' and '.join(shared)}" if shared else ""
    return f"{b} is identical to {a} on {where}: the features are equal {degree}{both}."


def origins(card: ModelCard) -> set[str]:
    """Where the files of a model come from, in words: repositories, addresses, library tags."""
    source = card.weights
    if isinstance(source, HubFile):
        return {source.repo, *(c.repo for c in source.companions.values())}
    if isinstance(source, UrlFile):
        return {source.url}
    return {f"{source.library} {source.tag}"} if isinstance(source, Library) else set()
