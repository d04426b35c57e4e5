"""CSV label sheets: rows with their line numbers, and the card's mapping of columns."""

from __future__ import annotations

import csv
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from discern.errors import did_you_mean, problem


@dataclass(frozen=True)
class CsvRow:
    """One line of a label sheet; ``where`` is 'file, line n'."""

    where: str
    values: dict[str, str]


def read_csv(file: Path) -> list[CsvRow]:
    """Rows of a CSV with blanks around names and values removed.

    Raises DiscernError for an absent or empty file, one that is not a UTF-8 CSV, or a ragged line.
    """
    if not file.is_file():
        raise problem(str(file), "no such label sheet", repair="fetch the data set again")
    rows = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            header = [name.strip() for name in reader.fieldnames or []]
            for values in reader:
                where = f"{file}, line {reader.line_num}"
                if None in values or None in values.values():
                    raise problem(where, f"does not have {len(header)} fields")
                fields = [value.strip() for value in values.values()]
                rows.append(CsvRow(where, dict(zip(header, fields, strict=True))))
    except (csv.Error, UnicodeDecodeError) as error:
        raise problem(str(file), f"not a UTF-8 CSV ({error})") from error
    if not rows:
        raise problem(str(file), "label sheet without rows", repair="fetch the data set again")
    return rows


def require(rows: list[CsvRow], sources: Iterable[str | list[str]], file: Path) -> None:
    """Raise DiscernError unless the rows have every CSV column that the mappings read."""
    header = list(rows[0].values)
    for name in (name for source in sources for name in _sources(source)):
        if name not in header:
            hint = did_you_mean(name, header)
            raise problem(str(file), f"column '{name}' is missing{hint}", allowed=header)


def _sources(source: str | list[str]) -> list[str]:
    """CSV columns that a mapping reads."""
    if isinstance(source, list):
        return [name for part in source for name in _sources(part)]
    if "{" not in source:
        return [source]
    return [name for _, name, _, _ in string.Formatter().parse(source) if name]


def cell(row: CsvRow, source: str | list[str]) -> str | None:
    """Value of a mapping in one row; None if empty. Of a list exactly one must be filled."""
    if isinstance(source, list):
        filled = [value for part in source if (value := cell(row, part)) is not None]
        if len(filled) != 1:
            raise problem(row.where, f"{len(filled)} of {', '.join(source)} are filled, expected one")
        return filled[0]
    if "{" not in source:
        return row.values[source] or None
    return source.format_map(row.values)
