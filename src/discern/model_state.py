"""What one model needs before it runs: environment, weights, rights, and what a person must do.

Reads cards and looks for files; opens no weights, no network and no heavy library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from discern import paths, preflight
from discern.encoders.weights import absent
from discern.environments import environment_digest
from discern.errors import DiscernError
from discern.registry import Registry
from discern.sources import Nothing, size_text

LICENCE = 44  # characters shown of a licence; `show` has all


@dataclass(frozen=True)
class ModelState:
    """One model of a study or of the registry."""

    name: str
    owner: str  # the model whose weights it uses
    environment: str
    built: bool
    weights: str  # 'none', 'present', 'automatic' or 'needs you'
    size: int | None  # bytes to download, where known
    gated: bool
    remote_code: bool
    licence: str
    need: str  # what a person must do, in one line; empty if nothing

    @property
    def fetched(self) -> bool:
        """Whether something is still to be downloaded or brought."""
        return self.weights in ("automatic", "needs you")

    @property
    def download(self) -> str:
        """Size of what is still to be downloaded, for people; '-' if nothing is."""
        return size_text(self.size) if self.fetched else "-"


def model_state(name: str, registry: Registry) -> ModelState:
    """The state of ``name`` (a model, feature or variant); DiscernError if its card is wrong."""
    card = registry.models[name]
    owner = registry.models.owner(name)
    mine = registry.models[owner]
    need = preflight.weights_need(mine) or ""
    if isinstance(mine.weights, Nothing):
        weights = "none"
    elif not need and not absent(mine):
        weights = "present"
    else:
        weights = "needs you" if need else "automatic"
    return ModelState(
        name=name,
        owner=owner,
        environment=card.environment,
        built=is_built(card.environment),
        weights=weights,
        size=getattr(mine.weights, "bytes", None),
        gated=getattr(mine.weights, "gated", False),
        remote_code=card.remote_code,
        licence=card.licence,
        need="; ".join(line.strip().removeprefix("repair: ") for line in need.splitlines()),
    )


def is_built(environment: str) -> bool:
    """Whether the environment of these very pins was built without conda."""
    file = preflight.ENVIRONMENTS / f"{environment}.yaml"
    try:
        lock = paths.ENVIRONMENT.format(env=environment, digest=environment_digest(file))
    except DiscernError:
        return False
    return Path(lock).is_file()


HEAD = ("environment", "weights", "download", "access", "remote code", "licence")


def columns(state: ModelState, remote_allowed: bool) -> tuple[str, ...]:
    """The state as one row under ``HEAD``."""
    weights = {"none": "none needed"}.get(state.weights, state.weights)
    code = "-" if not state.remote_code else "allowed" if remote_allowed else "not allowed"
    short = state.licence if len(state.licence) <= LICENCE else state.licence[: LICENCE - 1].rstrip() + "…"
    return (
        f"{state.environment}, {'built' if state.built else 'to build'}",
        weights if state.owner == state.name else f"{weights} ({state.owner})",
        state.download,
        "gated" if state.gated else "open",
        code,
        short,
    )


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows of equal length as lines, each column as wide as its longest entry."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]


def total_download(states: Iterable[ModelState]) -> tuple[int, list[str]]:
    """Bytes still to be downloaded as far as known, and the models of unknown size; shared files once."""
    owners = {state.owner: state for state in states if state.fetched}
    known = sum(state.size for state in owners.values() if state.size is not None)
    return known, [owner for owner, state in owners.items() if state.size is None]
