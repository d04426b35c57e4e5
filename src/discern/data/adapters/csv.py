"""A CSV with a row per image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from discern.adapter_card import Csv
from discern.data.adapters.entries import Entry, mappings, place, table_entry
from discern.data.adapters.join import read_second
from discern.data.adapters.places import Places
from discern.data.adapters.rows import Collector, Request, Scan, integer
from discern.data.tables import CsvTable, Source, TableRow, cell, needed, require
from discern.errors import DiscernError, listed, problem


def read(adapter: Csv, request: Request) -> Scan:
    """Rows of the table, or of one table for each official split."""
    collector, places = Collector(request, adapter.labels), Places(request.root)
    for split in request.parts(adapter.splits):
        try:
            _read(adapter, request, split, collector, places)
        except DiscernError as error:  # what is wrong with the next table is told as well
            collector.errors.append(error)
    places.tell()
    return collector.scan()


def _read(adapter: Csv, request: Request, split: str, collector: Collector, places: Places) -> None:
    table = _table(request.root / adapter.table.replace("{split}", split), adapter.delimiter, adapter.header)
    header, second = list(table.header), None
    hot = _hot_columns(adapter, request) if adapter.one_hot else None
    if adapter.join:
        other = _table(request.root / adapter.join.table, adapter.delimiter)
        wanted = needed([*_mappings(adapter, [*header, *other.header], hot).values()])
        second = read_second(table, other, adapter.join.on, wanted)
        header += second.names
    if split:  # {split} in a mapping is the split whose table this is
        header = [*(name for name in header if name != "split"), "split"]
    columns = _mappings(adapter, header, hot)
    require(header, columns.values(), table.file)
    entries: list[Entry] = []
    mistakes: list[str] = []
    for row in table:
        try:
            if second:
                second.add_to(row)
            if split:
                row.values["split"] = split
            entries.append(_entry(row, columns, split, request, hot))
        except DiscernError as error:
            mistakes.append(str(error))
    folders = [folder.replace("{split}", split) for folder in adapter.images]
    mistakes += table.mistakes + place(entries, folders, places, collector)
    if mistakes:
        raise listed(str(table.file), f"{len(mistakes)} rows do not fit the card", mistakes)


def _table(file: Path, delimiter: str, header: Sequence[str] = ()) -> CsvTable:
    if not file.is_file():
        there = sorted(p.name for p in file.parent.glob("*.csv"))[:10] if file.parent.is_dir() else []
        what = f"no such label sheet (there are: {', '.join(there)})" if there else "no such label sheet"
        raise problem(str(file), what, repair="fetch the data set again, or correct the card")
    return CsvTable(file, delimiter, header)


def _mappings(adapter: Csv, header: Sequence[str], hot: list[str] | None) -> dict[str, Source]:
    columns = mappings(adapter, header)
    return columns if hot is None else columns | {"label": hot}


def _hot_columns(adapter: Csv, request: Request) -> list[str]:
    """Those that `labels` renames or leaves out, and the other classes."""
    renamed = set(adapter.labels.values())
    return [*adapter.labels, *(n for n in request.classes if n not in renamed and n not in adapter.labels)]


def _entry(
    row: TableRow, columns: dict[str, Source], split: str, request: Request, hot: list[str] | None
) -> Entry:
    own = split or (cell(row, columns["official_split"]) if "official_split" in columns else None)
    if not request.pooled(own or None):  # is only counted: its label and path need not fit
        return Entry(row.where, "", "", columns={"official_split": own})
    label = cell(row, columns["label"]) if hot is None else _hot(row, hot, columns)
    return table_entry(row, columns, label, split)


def _hot(row: TableRow, hot: list[str], columns: dict[str, Source]) -> str:
    """The one-hot column that is 1; an empty field counts as 0."""
    values = {name: integer(row.values[name]) for name in hot}
    if odd := [f"{name} '{value}'" for name, value in values.items() if value not in ("0", "1", "")]:
        raise problem(row.where, f"one-hot columns hold {', '.join(odd)}", allowed=["0", "1"])
    ones = [name for name, value in values.items() if value == "1"]
    if len(ones) == 1:
        return ones[0]
    if ones:
        raise problem(row.where, f"{len(ones)} class columns are 1 ({', '.join(ones)}), expected one")
    used = needed(columns.values())
    others = [n for n, value in row.values.items() if n not in used and integer(value) == "1"]
    if not others:
        raise problem(row.where, "no class column is 1, expected one")
    repair = f"adapter.labels: {{{others[0]}: null}} leaves its images out, or add it to the classes"
    raise problem(row.where, f"no class column is 1, but {', '.join(others)}", repair=repair)
