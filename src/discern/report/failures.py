"""Why an expected result is missing: the earliest stage that did not deliver, its reason, its log.

A failed cell is data: tables and report print what is found here beside an empty cell, so nobody has
to search for the one log among hundreds that matters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from discern import paths
from discern.config import Study
from discern.environments import environment_digest
from discern.matrix import Cell
from discern.registry import Registry

NOT_MADE = "not made yet"
REASON_LENGTH = 300


@dataclass(frozen=True)
class Failure:
    """The stage that did not deliver, in one line why, and its log, empty if it left none."""

    stage: str
    reason: str
    log: str


@dataclass(frozen=True)
class _Step:
    """What a stage makes, where it logs, which environment runs it and which stages precede it."""

    output: str
    log: str
    environment: str  # empty: the model's own
    after: tuple[str, ...] = ()


STEPS = {
    "fetch_dataset": _Step(paths.DATASET_FETCHED, paths.DATASET_LOG, "data"),
    "prepare_dataset": _Step(paths.MANIFEST, paths.DATASET_LOG, "data", ("fetch_dataset",)),
    "split_dataset": _Step(paths.SPLITS, paths.SPLIT_LOG, "analysis", ("prepare_dataset",)),
    "fetch_weights": _Step(paths.WEIGHTS_FETCHED, paths.MODEL_LOG, "data"),
    "extract_features": _Step(paths.FEATURES, paths.FEATURES_LOG, "", ("prepare_dataset", "fetch_weights")),
    "fit_svm": _Step(paths.SCORES, paths.PROTOCOL_LOG, "analysis", ("split_dataset", "extract_features")),
    "embed_umap": _Step(paths.UMAP, paths.CELL_LOG, "analysis", ("extract_features",)),
    "find_neighbours": _Step(
        paths.NEIGHBOURS, paths.DATASET_CELLS_LOG, "analysis", ("split_dataset", "extract_features")
    ),
    "compare_protocols": _Step(paths.GAPS, paths.STUDY_LOG, "analysis", ("fit_svm",)),
    "explain_rise": _Step(paths.RISE, paths.CELL_LOG, "", ("fit_svm",)),
}


def explain(
    study: Study,
    registry: Registry,
    cell: Cell,
    protocol: str,
    stage: str,
    environments: Path | str = "envs",
    root: Path | str = ".",
) -> Failure:
    """Say why ``stage`` has no output for ``cell``.

    Of the missing files upstream, the earliest stage that left a log was tried last and is named;
    without any log, the earliest that could run now.
    """
    root = Path(root)
    own = registry.models[cell.model].environment
    fields = {"study": study.study, "dataset": cell.dataset, "model": cell.model, "protocol": protocol}
    shelf = registry.datasets
    shared = {
        "fetch_dataset": fields | {"dataset": shelf.owner(cell.dataset)},
        "extract_features": fields | {"dataset": shelf.images(cell.dataset)},
    }
    missing: list[tuple[str, str]] = []  # stage and log, upstream first

    def walk(name: str) -> None:
        step = STEPS[name]
        mine = shared.get(name, fields)
        if (root / step.output.format(**mine)).exists():
            return
        for upstream in step.after:
            walk(upstream)
        if log := _environment_log(root, environments, step.environment or own):
            missing.append(("build_environment", log))
        missing.append((name, _log(root, name, mine)))

    walk(stage)
    missing = missing or [(stage, STEPS[stage].log.format(rule=stage, **fields))]
    name, log = next((m for m in missing if (root / m[1]).is_file()), missing[0])
    return Failure(name, reason_in(root / log), log if (root / log).is_file() else "")


def _log(root: Path, stage: str, fields: dict[str, str]) -> str:
    """A stage's log; of an extraction in shards, that of a shard that left nothing, or of their merge."""
    if stage != "extract_features":
        return STEPS[stage].log.format(rule=stage, **fields)
    shards = paths.SHARD_LOG.format(rule="extract_shard", rows="*", **fields)
    merge = root / paths.FEATURES_LOG.format(rule="merge_features", **fields)
    whole = root / paths.FEATURES_LOG.format(rule=stage, **fields)
    made = (root / paths.SHARD.format(rows="*", **fields)).parent
    failed = [log for log in sorted(root.glob(shards)) if not (made / f"{log.stem}.parquet").exists()]
    tried = [log for log in (*failed, merge, whole) if log.is_file()]
    newest = max(tried, key=lambda log: log.stat().st_mtime, default=whole)
    return str(newest.relative_to(root))


def _environment_log(root: Path, environments: Path | str, env: str) -> str:
    """Log of an environment that was tried and not built, or an empty string.

    With conda there is never a lock file, so a missing one means nothing without a log.
    """
    file = root / environments / f"{env}.yaml"
    if not file.is_file():
        return ""
    digest = environment_digest(file)
    log = paths.ENVIRONMENT_LOG.format(rule="build_environment", env=env, digest=digest)
    built = (root / paths.ENVIRONMENT.format(env=env, digest=digest)).exists()
    return log if not built and (root / log).is_file() else ""


def reason_in(log: Path) -> str:
    """One line from a log: the message of its last error, else its last line, else 'not made yet'."""
    if not log.is_file():
        return NOT_MADE
    # Progress bars end their lines with a carriage return, which splitlines takes for a line end.
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    # A message may follow an unfinished progress bar on the same line.
    errors = errors or [line.split("error: ", 1)[1] for line in lines if "error: " in line]
    reason = (errors or lines or [NOT_MADE])[-1]
    reason = re.sub(r"[\x00-\x1f\x7f]|\x1b\[[0-9;]*m", "", reason)
    return reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 1] + "…"
