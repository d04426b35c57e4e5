"""Records -> one table as the paper lays it out: models in groups, a column per data set.

Everything a reader must see (best and second best, daggers, footnotes of missing cells) is decided
here once; the formats only spell it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from discern.model_card import MODEL_GROUPS
from discern.report.failures import Failure
from discern.report.records import NO_GROUPS, Gap, Record, Score

TITLES = {"accuracy": "Table 3. Accuracy (%)", "macro_f1": "Table 4. Macro-F1 (%)"}
FILES = {"accuracy": "table3", "macro_f1": "table4"}
SPLITS = {"image": "split by image", "group": "split by group"}


@dataclass(frozen=True)
class Column:
    """Heading of one data set."""

    dataset: str
    title: str
    modality: str
    size: str  # 'n = 916'
    classes: str  # '13 classes'
    largest_class: float | None


@dataclass(frozen=True)
class TableCell:
    """One printed cell; ``rank`` 1 is best, 2 second best, 0 unmarked. Of gaps, 1 excludes 0."""

    score: Score | None = None
    rank: int = 0
    dagger: str = ""
    empty: str = ""  # what stands in place of a score
    note: int | None = None
    published: Score | None = None
    difference: float | None = None
    gap: Gap | None = None

    @property
    def text(self) -> str:
        """'78.3 ± 1.2', '+14.2 [+9.8, +18.1]', or the mark of an empty cell."""
        if self.gap is not None:
            return gap_text(self.gap)
        return self.empty if self.score is None else score_text(self.score)


@dataclass(frozen=True)
class Note:
    """A footnote: what happened, and the log to read."""

    number: int
    text: str
    log: str = ""


@dataclass(frozen=True)
class Row:
    """One model."""

    model: str
    title: str
    group: str
    cells: list[TableCell]


@dataclass(frozen=True)
class Table:
    """A laid-out table; ``sections`` pairs a group heading with its rows."""

    name: str
    title: str
    metric: str
    protocol: str
    columns: list[Column]
    sections: list[tuple[str, list[Row]]]
    notes: list[Note]
    legend: list[str]
    chance: bool  # print the share of the largest class as last line
    published: bool = False  # print 'measured (published, difference)'
    omitted: list[str] = field(default_factory=list)
    readings: list[str] = field(default_factory=list)  # what each data set is, below the legend
    kind: Literal["scores", "gaps"] = "scores"


def score_text(score: Score) -> str:
    """'78.3 ± 1.2' (one decimal), without the deviation where there is one fold."""
    return f"{score.mean:.1f}" if score.sd is None else f"{score.mean:.1f} ± {score.sd:.1f}"


def gap_text(gap: Gap) -> str:
    """'+14.2 [+9.8, +18.1]' in points, without the interval where there is none; a true minus."""
    numbers = [f"{v:+.1f}".replace("-", "−") for v in (gap.value, gap.low, gap.high) if v is not None]
    return numbers[0] if len(numbers) < 3 else f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def lay_out(
    records: Sequence[Record],
    metric: str,
    protocol: str,
    *,
    published: bool = False,
    partial: bool = False,
    remarks: Sequence[str] = (),
) -> Table:
    """Lay out one metric and protocol. Data sets on which no model applies are named, not printed.

    ``remarks`` are sentences about models that end the legend.
    """
    chosen = [r for r in records if r.protocol == protocol]
    ranks = _ranks(chosen, metric)
    name = FILES.get(metric, metric) + ("_published" if published else "")
    table = Table(
        name=name if protocol == "image" else f"{name}.{protocol}",
        title=f"{TITLES.get(metric, metric)}, {SPLITS[protocol]}"
        + (", beside published" if published else ""),
        metric=metric,
        protocol=protocol,
        chance=metric == "accuracy",
        published=published,
        **frame(chosen, lambda r, notes: _cell(r, metric, ranks, notes, published)),
    )
    return replace(table, legend=[*_legend(table, chosen, partial), *remarks])


def frame(
    chosen: Sequence[Record], cell: Callable[[Record, dict[Failure, Note]], TableCell]
) -> dict[str, Any]:
    """Columns, rows, notes and readings of a table of one protocol; ``cell`` makes its cells."""
    datasets = list(dict.fromkeys(r.dataset for r in chosen))
    # A data set without groups is shown, so that the table says so.
    shown = [
        d
        for d in datasets
        if any(r.dataset == d and (r.status != "inapplicable" or r.ungrouped) for r in chosen)
    ]
    notes = _notes([r for r in chosen if r.dataset in shown])
    by_cell = {(r.model, r.dataset): r for r in chosen}
    heads = [next(r for r in chosen if r.dataset == d) for d in shown]
    rows = []
    for model in dict.fromkeys(r.model for r in chosen):
        first = next(r for r in chosen if r.model == model)
        cells = [cell(by_cell[model, d], notes) for d in shown]
        rows.append(Row(model, first.model_title, first.group, cells))
    sections = [(heading, [r for r in rows if r.group == group]) for group, heading in MODEL_GROUPS.items()]
    return {
        "columns": [_column(r) for r in heads],
        "sections": [(heading, part) for heading, part in sections if part],
        "notes": list(notes.values()),
        "legend": [],
        "omitted": _omitted([r for r in chosen if r.dataset not in shown]),
        "readings": [r.line for r in heads],
    }


def _omitted(records: Sequence[Record]) -> list[str]:
    """'title, title (reason)' for each reason that leaves whole data sets out."""
    titles: dict[str, list[str]] = {}
    for r in records:
        if r.failure and r.dataset_title not in titles.setdefault(r.failure.reason, []):
            titles[r.failure.reason].append(r.dataset_title)
    return [f"{', '.join(names)} ({reason})" for reason, names in titles.items()]


def _column(r: Record) -> Column:
    size = "n unknown" if r.n is None else f"n = {r.n:,}"
    return Column(r.dataset, r.dataset_title, r.modality, size, f"{r.classes} classes", r.largest_class)


def _ranks(records: list[Record], metric: str) -> dict[tuple[str, float], int]:
    """(data set, printed mean) -> 1 or 2; equal printed means share a rank, controls have none."""
    ranks = {}
    for dataset in {r.dataset for r in records}:
        means = {
            round(r.scores[metric].mean, 1)
            for r in records
            if r.dataset == dataset and r.group != "control" and metric in r.scores
        }
        for rank, mean in enumerate(sorted(means, reverse=True)[:2], start=1):
            ranks[dataset, mean] = rank
    return ranks


def _notes(records: list[Record]) -> dict[Failure, Note]:
    """One footnote per distinct failure, numbered in reading order (by model, as rows are)."""
    order = {group: i for i, group in enumerate(MODEL_GROUPS)}
    notes: dict[Failure, Note] = {}
    models = list(dict.fromkeys(r.model for r in records))
    for r in sorted(records, key=lambda r: (order[r.group], models.index(r.model))):
        if r.failure is None:
            continue
        text = f"{r.failure.stage}: {r.failure.reason}" if r.failure.stage else r.failure.reason
        notes.setdefault(r.failure, Note(len(notes) + 1, text, r.failure.log))
    return notes


def _cell(
    r: Record,
    metric: str,
    ranks: dict[tuple[str, float], int],
    notes: dict[Failure, Note],
    beside_published: bool,
) -> TableCell:
    dagger = "‡" if r.dataset_seen else "†" if r.modality_seen else ""
    published = r.published.get(metric) if beside_published else None
    if r.failure is not None:
        return replace(empty_cell(r, notes), published=published)
    score = r.scores.get(metric)
    if score is None:
        return TableCell(empty="—", published=published)
    rank = 0 if r.group == "control" else ranks.get((r.dataset, round(score.mean, 1)), 0)
    return TableCell(
        score, rank, dagger, published=published, difference=r.difference(metric) if published else None
    )


def empty_cell(r: Record, notes: dict[Failure, Note]) -> TableCell:
    """The mark and the footnote of a cell that was not made."""
    empty = NO_GROUPS if r.ungrouped else "n/a" if r.status == "inapplicable" else "—"
    return TableCell(empty=empty, note=notes[r.failure].number if r.failure else None)


def _legend(table: Table, records: list[Record], partial: bool) -> list[str]:
    made = [r for r in records if r.status == "made"]
    folds = max((r.folds for r in made), default=0)
    cells = [c for _, rows in table.sections for row in rows for c in row.cells]
    lines = []
    if folds:
        lines.append(
            f"Mean ± standard deviation (n − 1) over the {folds} fold models, each scored on the same "
            "hold-out images. Rank marks go by the printed value: ties share, controls are not ranked."
        )
    if table.published:
        whole = all(s.mean.is_integer() for r in records for s in r.published.values())
        rounded = " Published means are whole percents." if whole else ""
        lines.append(f"In brackets: published value, Δ = measured − published.{rounded}")
    if any(c.dagger == "†" for c in cells):
        lines.append("† The model was trained on this modality.")
    if any(c.dagger == "‡" for c in cells):
        lines.append("‡ The model was trained on this data set.")
    if unconverged := sum(r.unconverged for r in made):
        lines.append(f"{unconverged} of the chosen SVM fits did not reach the tolerance (see scores.csv).")
    return [*lines, *completeness(table, records, partial)]


def completeness(table: Table, records: Sequence[Record], partial: bool) -> list[str]:
    """Sentences about data sets that were left out and cells that are missing."""
    made = sum(r.status == "made" for r in records)
    expected = sum(r.status != "inapplicable" for r in records)
    lines = [f"Left out: {'; '.join(table.omitted)}."] if table.omitted else []
    if partial or made < expected:
        lines.append(f"Partial: {made} of {expected} cells are made.")
    return lines


def has_published(records: Sequence[Record]) -> bool:
    """Is there any published value to compare with?"""
    return any(r.published for r in records)


def tables(records: Sequence[Record], *, partial: bool = False, remarks: Sequence[str] = ()) -> list[Table]:
    """Tables 3 and 4 per protocol; where published values exist, each a second time beside them."""
    result = []
    for protocol in dict.fromkeys(r.protocol for r in records):
        compared = has_published([r for r in records if r.protocol == protocol])
        for metric in TITLES:
            for published in [False, True] if compared else [False]:
                table = lay_out(
                    records, metric, protocol, published=published, partial=partial, remarks=remarks
                )
                if table.columns:
                    result.append(table)
    return result
