"""Label sheets: rows with their line numbers, and the card's mapping of columns."""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from discern.adapter_card import PLACEHOLDER
from discern.errors import did_you_mean, problem

#: What a card maps a manifest column to: a column, a text with ``{columns}`` in it, or a list of these.
Source = str | list[str]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a label sheet; ``where`` is 'file, line n'."""

    where: str
    values: dict[str, str]


@dataclass
class CsvTable:
    """A CSV, read row by row with blanks around names and values removed.

    ``header``: column names of a file without a header line. ``mistakes``: lines that were passed over
    because they do not have a field for each column, known once all rows were read. Raises DiscernError
    for an empty file, and for one that is not UTF-8, or UTF-16 with its mark.
    """

    file: Path
    delimiter: str = ","
    header: Sequence[str] = ()
    mistakes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._first = 0 if self.header else 1  # line of the first row, among those that are not blank
        if not self.header:
            with contextlib.closing(self._lines()) as lines:
                self.header = next(lines, (0, []))[1]
        if not self.header:
            raise problem(str(self.file), "empty label sheet", repair="fetch the data set again")

    def __iter__(self) -> Iterator[TableRow]:
        self.mistakes.clear()
        names, empty = list(self.header), True
        for number, values in itertools.islice(self._lines(), self._first, None):
            empty = False
            where = f"{self.file}, line {number}"
            surplus = values[len(names) :]
            if len(values) < len(names) or any(surplus):
                self.mistakes.append(f"{where}: does not have {len(names)} fields, but {len(values)}")
            else:
                yield TableRow(where, dict(zip(names, values, strict=False)))
        if empty:
            raise problem(str(self.file), "label sheet without rows", repair="fetch the data set again")

    def _lines(self) -> Generator[tuple[int, list[str]]]:
        """Number and fields of each line that is not blank."""
        try:
            with self.file.open(encoding=_encoding(self.file), newline="") as handle:
                reader = csv.reader(handle, delimiter=self.delimiter, skipinitialspace=True)
                for values in reader:
                    stripped = [value.strip() for value in values]
                    if any(stripped):
                        yield reader.line_num, stripped
        except UnicodeError as error:
            raise problem(
                str(self.file),
                f"is not UTF-8 ({error})",
                repair="save it as UTF-8; Latin-1, for one: iconv -f latin1 -t utf-8 OLD > NEW",
            ) from error
        except csv.Error as error:
            raise problem(str(self.file), f"not a CSV ({error})") from error


def _encoding(file: Path) -> str:
    with file.open("rb") as handle:
        mark = handle.read(2)
    return "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def require(header: Sequence[str], sources: Iterable[Source], file: Path | str) -> None:
    """Raise DiscernError unless the table has every column that the mappings read, once."""
    mistakes = []
    for name in needed(sources):
        if name not in header:
            mistakes.append(f"column '{name}' is missing{did_you_mean(name, header)}")
        elif (n := list(header).count(name)) > 1:
            mistakes.append(f"{n} columns are named '{name}'")
    if mistakes:
        other = next((d for d in (";", "\t", "|") if len(header) == 1 and d in header[0]), "")
        repair = f"the columns are separated by {other!r}: set adapter.delimiter" if other else ""
        raise problem(str(file), "; ".join(mistakes), allowed=header, repair=repair)


def needed(sources: Iterable[Source]) -> list[str]:
    """Columns that mappings read, each once."""
    return list(dict.fromkeys(name for source in sources for name in _columns(source)))


def _columns(source: Source) -> list[str]:
    if isinstance(source, list):
        return [name for part in source for name in _columns(part)]
    return [match[1] for match in PLACEHOLDER.finditer(source)] if "{" in source else [source]


def cell(row: TableRow, source: Source) -> str | None:
    """Value of a mapping in one row; None if empty, as a text is in which a column is empty.

    Raises DiscernError unless exactly one of a list is filled.
    """
    if isinstance(source, list):
        values = [value for part in source if (value := cell(row, part)) is not None]
        if len(values) != 1:
            raise problem(row.where, f"{len(values)} of {', '.join(source)} are filled, expected one")
        return values[0]
    if "{" not in source:
        return row.values[source] or None
    values = [_filling(row, match) for match in PLACEHOLDER.finditer(source)]
    if not all(values):
        return None
    filled = iter(values)
    return PLACEHOLDER.sub(lambda _: next(filled), source)


def _filling(row: TableRow, placeholder: re.Match[str]) -> str:
    """Value of ``{column}``, or the first part of it that matches, of ``{column|regular expression}``."""
    value = row.values[placeholder[1]]
    if placeholder[2] is None:
        return value
    match = re.search(placeholder[2], value)
    return match[0] if match else ""
