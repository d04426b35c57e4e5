"""All table files of a study in one folder, and the table that the terminal prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from discern.config import Study
from discern.contracts import write_text
from discern.errors import DiscernError
from discern.registry import Registry
from discern.report.gaps import gap_tables
from discern.report.identical import identical_models
from discern.report.layout import lay_out, tables
from discern.report.records import Record, collect, write_tidy
from discern.report.score_figure import score_figure
from discern.report.table_formats import FORMATS, to_text


def read_study(study: str) -> Study:
    """A study from its JSON dump, or from the name of a file that holds it."""
    text = study if study.lstrip().startswith("{") else Path(study).read_text(encoding="utf-8")
    return Study.model_validate_json(text)


def text_table(records: Sequence[Record], metric: str = "accuracy", protocol: str = "image") -> str:
    """Table 3 (``accuracy``) or 4 (``macro_f1``) as aligned plain text."""
    return to_text(lay_out(records, metric, protocol))


def build_tables(
    study: Study, registry: Registry, out: Path | str, *, partial: bool = False, root: Path | str = "."
) -> None:
    """Write scores.csv, ``table3`` and ``table4`` in every format, and one score figure per table.

    Names: ``table3[_published][.<protocol>].<ext>``; the protocol ``image``, the paper's, is left out.
    A study with both protocols has ``gap`` and ``gap_macro_f1`` as well. Raises DiscernError for scores that
    cannot be read, unless ``partial``, where their cells are marked.
    """
    out = Path(out)
    records = collect(study, registry, root)
    if not partial and (damaged := [r.failure.reason for r in records if r.damaged and r.failure]):
        raise DiscernError("\n".join(damaged))
    write_tidy(records, out / "scores.csv")
    remarks = identical_models(study, registry, Path(root))
    made = tables(records, partial=partial, remarks=remarks)
    for table in [*made, *gap_tables(study, registry, records, root, partial=partial)]:
        for extension, spell in FORMATS.items():
            write_text(out / f"{table.name}.{extension}", spell(table))
        if table.kind == "gaps" or table.published:
            continue
        if figure := score_figure(records, table.metric, table.protocol):
            write_text(out / f"{table.name}.svg", figure)
