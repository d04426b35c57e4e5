"""Scores of every cell of a study as tidy records: measured, published, failed, inapplicable.

Mean and standard deviation run over the fold models, each scored on the same hold-out images. The
deviation divides by folds - 1 (the paper does not say which it prints).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from discern import paths
from discern.config import Study
from discern.contracts import SCORES, ContractError, read_table, write_text
from discern.dataset_card import DatasetCard
from discern.matrix import Cell, cells, protocols
from discern.model_card import ModelCard
from discern.registry import Registry
from discern.report.failures import Failure, explain
from discern.report.plain_csv import no_formula
from discern.report.readings import reading_line, size

METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "positive_f1")
METRIC_NAMES = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
PUBLISHED_METRICS = ("accuracy", "macro_f1")
NO_GROUPS = "no group key"


@dataclass(frozen=True)
class Score:
    """Mean and sample standard deviation over fold models, in percent; ``sd`` is None for one fold."""

    mean: float
    sd: float | None


@dataclass(frozen=True)
class Gap:
    """Score by image minus score by group, in points, with its 95 % interval (None: it has none)."""

    value: float
    low: float | None
    high: float | None
    image: float
    group: float
    units: tuple[int, int]  # groups in the hold-out by image and by group

    @property
    def decided(self) -> bool:
        """Does the interval exclude 0?"""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Record:
    """One model on one data set by one protocol, with all that a table prints about it."""

    model: str
    model_title: str
    group: str
    dataset: str
    dataset_title: str
    modality: str
    protocol: str
    n: int | None
    classes: int
    largest_class: float | None  # percent of all images: accuracy of always naming that class
    modality_seen: bool
    dataset_seen: bool
    status: str  # made, failed, inapplicable
    failure: Failure | None = None
    damaged: bool = False  # failed because its scores cannot be read
    ungrouped: bool = False  # inapplicable because the data set has no group key
    reading: str = ""  # the card's words for which of several readings of the data set this is
    line: str = ""  # what was read, for the foot of a table
    scores: dict[str, Score] = field(default_factory=dict)
    published: dict[str, Score] = field(default_factory=dict)
    estimator: str = ""
    t: tuple[float, ...] = ()  # chosen, one per fold
    folds: int = 0
    unconverged: int = 0  # chosen fits that did not reach the tolerance
    gaps: dict[str, Gap] = field(default_factory=dict)  # of records that compare two protocols

    def difference(self, metric: str) -> float | None:
        """Measured minus published mean in percentage points, or None."""
        if metric not in self.scores or metric not in self.published:
            return None
        return self.scores[metric].mean - self.published[metric].mean


def collect(study: Study, registry: Registry, root: Path | str = ".") -> list[Record]:
    """A record for every data set x model x protocol, in the order of the study's lists."""
    root = Path(root)
    reference = _reference(study, registry)
    sizes = {d: size(registry.datasets[d], root) for d in study.datasets}
    records = []
    for protocol in study.split.protocols:
        for cell in cells(study, registry):
            model, dataset = registry.models[cell.model], registry.datasets[cell.dataset]
            ungrouped = cell.runs and protocol not in protocols(study, dataset)
            if ungrouped:
                cell = Cell(cell.model, cell.dataset, no_groups(dataset))
            found = sizes[cell.dataset]
            records.append(
                Record(
                    model=model.name,
                    model_title=model.title,
                    group=model.group,
                    dataset=dataset.name,
                    dataset_title=dataset.title,
                    modality=dataset.modality,
                    protocol=protocol,
                    n=found.n,
                    classes=len(dataset.classes),
                    largest_class=found.largest,
                    modality_seen=_seen(dataset.modality, model.training.modalities),
                    dataset_seen=dataset.name in model.training.datasets,
                    # The paper splits by image; its numbers say nothing about other protocols.
                    published=_published(reference, model, dataset) if protocol == "image" else {},
                    ungrouped=ungrouped,
                    reading=dataset.reading,
                    line=reading_line(dataset, study, protocol, found),
                    **_measured(study, registry, cell, protocol, root),
                )
            )
    return records


def no_groups(card: DatasetCard) -> str:
    """Why the `group` protocol is not applicable, with the card's own reason."""
    return f"{NO_GROUPS}: {card.group_note or 'nothing says which images belong together'}"


def _seen(modality: str, trained: list[str]) -> bool:
    """Is any part of 'CT and MRI', or 'CT' of 'CT volume', among the modalities of training?"""
    parts = {p.strip() for p in modality.casefold().removesuffix(" volume").split(" and ")}
    return not parts.isdisjoint(t.casefold() for t in trained)


def _measured(study: Study, registry: Registry, cell: Cell, protocol: str, root: Path) -> dict[str, Any]:
    if not cell.runs:
        return {"status": "inapplicable", "failure": Failure("", cell.reason, "")}
    where = {"study": study.study, "dataset": cell.dataset, "model": cell.model, "protocol": protocol}
    file = root / paths.SCORES.format(**where)
    if not file.exists():
        failure = explain(study, registry, cell, protocol, "fit_svm", root=root)
        return {"status": "failed", "failure": failure}
    try:
        table, _ = read_table(SCORES, file)
    except ContractError as error:
        log = paths.PROTOCOL_LOG.format(rule="fit_svm", **where)
        reason = "; ".join(line.strip() for line in str(error).splitlines())  # with its repair
        return {"status": "failed", "failure": Failure("fit_svm", reason, log), "damaged": True}
    scores = {}
    for metric in METRICS:
        values = 100 * np.array([v for v in table[metric].to_pylist() if v is not None])
        if len(values):
            scores[metric] = Score(
                float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None
            )
    return {
        "status": "made",
        "scores": scores,
        "estimator": ", ".join(sorted(set(table["estimator"].to_pylist()))),
        "t": tuple(table["t"].to_pylist()),
        "folds": table.num_rows,
        "unconverged": table["converged"].to_pylist().count(False),
    }


def _reference(study: Study, registry: Registry) -> dict[tuple[str, str, str], Score]:
    """Published scores by (row of the paper, data set, metric)."""
    if study.reference is None:
        return {}
    with registry.reference_file(study.reference).open(encoding="utf-8", newline="") as handle:
        return {
            (row["model"], row["dataset"], row["metric"]): Score(float(row["mean"]), float(row["std"]))
            for row in csv.DictReader(handle)
        }


def _published(
    reference: dict[tuple[str, str, str], Score], model: ModelCard, dataset: DatasetCard
) -> dict[str, Score]:
    keys = {metric: (model.paper_row or "", dataset.name, metric) for metric in PUBLISHED_METRICS}
    return {metric: reference[key] for metric, key in keys.items() if key in reference}


def tidy_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Long form: a row per record and metric; numbers in percent, empty where there are none."""
    rows = []
    for r in records:
        for metric in METRICS:
            score, published = r.scores.get(metric), r.published.get(metric)
            if metric == "positive_f1" and r.classes != 2:
                continue
            rows.append(
                {
                    "protocol": r.protocol,
                    "dataset": r.dataset,
                    "reading": r.reading,
                    "modality": r.modality,
                    "n": r.n,
                    "classes": r.classes,
                    "model": r.model,
                    "group": r.group,
                    "metric": metric,
                    "mean": score and _round(score.mean),
                    "sd": score and _round(score.sd),
                    "folds": r.folds or None,
                    "published_mean": published and published.mean,
                    "published_sd": published and published.sd,
                    "difference": _round(r.difference(metric)),
                    "estimator": r.estimator,
                    "t": " ".join(f"{t:g}" for t in r.t),
                    "unconverged": r.unconverged if r.status == "made" else None,
                    "modality_in_training": int(r.modality_seen),
                    "dataset_in_training": int(r.dataset_seen),
                    "status": r.status,
                    "stage": r.failure.stage if r.failure else "",
                    "reason": r.failure.reason if r.failure else "",
                    "log": r.failure.log if r.failure else "",
                }
            )
    return rows


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def write_tidy(records: Sequence[Record], out: Path | str) -> None:
    """Write ``tidy_rows`` as CSV."""
    rows = tidy_rows(records)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: no_formula(v) for k, v in row.items()} for row in rows)
    write_text(out, text.getvalue())
