"""The gap between the protocols as a table: by image minus by group, with its paired interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from discern import paths
from discern.config import Study
from discern.contracts import GAPS, ContractError, read_table
from discern.matrix import Cell
from discern.registry import Registry
from discern.report.failures import NOT_MADE, Failure, explain
from discern.report.layout import Note, Table, TableCell, completeness, empty_cell, frame
from discern.report.records import METRIC_NAMES, Gap, Record

FILES = {"accuracy": "gap", "macro_f1": "gap_macro_f1"}
STAGE = "compare_protocols"
FEW = 10  # groups in a hold-out: with fewer, an interval is rough


def gap_tables(
    study: Study,
    registry: Registry,
    records: Sequence[Record],
    root: Path | str = ".",
    *,
    partial: bool = False,
) -> list[Table]:
    """A table per metric where the study has both protocols, else none. ``records``: of all cells."""
    if not {"image", "group"} <= set(study.split.protocols):
        return []
    found = gap_records(study, registry, records, Path(root))
    tables = [lay_out_gaps(found, metric, study, partial=partial) for metric in FILES]
    return [table for table in tables if table.columns]


def gap_records(study: Study, registry: Registry, records: Sequence[Record], root: Path) -> list[Record]:
    """A record per model and data set: its gaps, or why there are none."""
    gaps = _read(study, root)
    by_image = {(r.model, r.dataset): r for r in records if r.protocol == "image"}
    result = []
    for other in (r for r in records if r.protocol == "group"):
        one = by_image[other.model, other.dataset]
        # The first of the two that was not made says why.
        lacking = next((r for r in (other, one) if r.status == "inapplicable"), None)
        lacking = lacking or next((r for r in (one, other) if r.status == "failed"), None)
        state: dict[str, Any] = {"status": "made", "failure": None, "gaps": {}}
        if lacking is not None:
            state |= {"status": lacking.status, "failure": lacking.failure}
        elif (mine := gaps.get((other.model, other.dataset))) is not None:
            state["gaps"] = mine
        else:
            state |= {"status": "failed", "failure": _why(study, registry, other, root)}
        result.append(replace(other, scores={}, published={}, **state))
    return result


def _read(study: Study, root: Path) -> dict[tuple[str, str], dict[str, Gap]]:
    """(model, data set) -> metric -> gap in points."""
    try:
        table, _ = read_table(GAPS, root / paths.GAPS.format(study=study.study))
    except ContractError:
        return {}
    result: dict[tuple[str, str], dict[str, Gap]] = {}
    for r in table.to_pylist():
        low, high = (None if r[end] is None else 100 * r[end] for end in ("low", "high"))
        value, image, group = (100 * r[name] for name in ("difference", "image", "group"))
        gap = Gap(value, low, high, image, group, (r["units_image"], r["units_group"]))
        result.setdefault((r["model"], r["dataset"]), {})[r["metric"]] = gap
    return result


def _why(study: Study, registry: Registry, r: Record, root: Path) -> Failure:
    if (root / paths.GAPS.format(study=study.study)).is_file():
        return Failure(STAGE, NOT_MADE, "")  # of an earlier run, or damaged
    return explain(study, registry, Cell(r.model, r.dataset), "group", STAGE, root=root)


def lay_out_gaps(records: Sequence[Record], metric: str, study: Study, *, partial: bool = False) -> Table:
    """Lay out the gaps of one metric."""

    def cell(r: Record, notes: dict[Failure, Note]) -> TableCell:
        if metric not in r.gaps:
            return empty_cell(r, notes)
        return TableCell(gap=r.gaps[metric], rank=int(r.gaps[metric].decided))

    name = METRIC_NAMES[metric]
    table = Table(
        name=FILES[metric],
        title=f"Leakage. {name[:1].upper() + name[1:]} by image minus by group (percentage points)",
        metric=metric,
        protocol="group",
        chance=False,
        kind="gaps",
        **frame(records, cell),
    )
    legend = [
        f"Score by image minus score by group, mean over the fold models, with a 95 % interval: paired "
        f"bootstrap over groups, {study.compare.n_bootstrap:,} draws. A positive gap is what images of a "
        "known group in the training part add to the score.",
        *_held_out(records, metric),
    ]
    return replace(table, legend=[*legend, *completeness(table, records, partial)])


def _held_out(records: Sequence[Record], metric: str) -> list[str]:
    """How many groups carry each interval."""
    units = {r.dataset_title: r.gaps[metric].units for r in records if metric in r.gaps}
    if not units:
        return []
    sizes = "; ".join(f"{title}: {one} and {other}" for title, (one, other) in units.items())
    lines = [f"Groups held out by image and by group: {sizes}."]
    if any(min(two) < FEW for two in units.values()):
        lines.append(f"Where they are fewer than {FEW}, the interval is rough; one group gives none.")
    return lines
