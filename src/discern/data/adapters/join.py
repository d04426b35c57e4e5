"""A second CSV whose columns are added to the rows of the first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from discern.data.tables import CsvTable, TableRow, require
from discern.errors import listed, problem


@dataclass(frozen=True)
class Second:
    """The second table by the key ``on``: of its columns those that are wanted and that the first lacks."""

    table: CsvTable
    on: str
    names: list[str]
    rows: dict[str, dict[str, str]]

    def add_to(self, row: TableRow) -> None:
        """Give a row of the first table its further values; DiscernError if the second lacks its key."""
        key = row.values[self.on]
        if key not in self.rows:
            raise problem(row.where, f"{self.on} '{key}' has no row in {self.table.file}")
        row.values.update(self.rows[key])


def read_second(first: CsvTable, second: CsvTable, on: str, wanted: Collection[str]) -> Second:
    """The second table, whose rows of one key must agree in what is wanted."""
    require(first.header, [on], first.file)
    require(second.header, [on], second.file)
    names = [name for name in second.header if name in wanted and name not in first.header]
    rows: dict[str, dict[str, str]] = {}
    mistakes = []
    for row in second:
        values = {name: row.values[name] for name in names}
        if rows.setdefault(row.values[on], values) != values:
            mistakes.append(f"{row.where}: {on} '{row.values[on]}' has other values than before")
    if mistakes := mistakes + second.mistakes:
        raise listed(str(second.file), f"{len(mistakes)} rows cannot be joined", mistakes)
    return Second(second, on, names, rows)
