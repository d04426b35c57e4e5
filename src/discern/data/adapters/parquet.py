"""Parquet files with the pictures in them; their bytes are not read here.

Of a table with 250,000 pictures only the columns beside the bytes are loaded, and of a record column
(``bytes``, ``path``) only the path. A picture's locator is ``<file>#<column>[<row in that file>]``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from discern.adapter_card import Parquet
from discern.data.adapters.entries import Entry, mappings, place, table_entry
from discern.data.adapters.places import Places, relative
from discern.data.adapters.rows import Collector, Request, Scan, integer, path_ids
from discern.data.pictures.containers import file_behind
from discern.data.tables import Source, TableRow, cell, needed, require
from discern.errors import DiscernError, listed, problem

BATCH = 256  # rows whose bytes are in memory where a file does not say which are null


def read(adapter: Parquet, request: Request) -> Scan:
    """Rows of the files that the card's pattern matches, or of those of each official split."""
    collector, places = Collector(request, adapter.labels, indexed=True), Places(request.root)
    entries: list[Entry] = []
    for split in request.parts(adapter.splits):
        try:
            for file in _files(adapter, request.root, split):
                entries += _entries(adapter, request, file, split)
        except DiscernError as error:  # what is wrong with the next files is told as well
            collector.errors.append(error)
    inside = [entry for entry in entries if entry.inside]
    _name(inside)
    mistakes = place(inside, [""], places, collector)
    outside = [entry for entry in entries if not entry.inside]
    for split in request.parts(adapter.splits) if outside else []:
        mine = [e for e in outside if not adapter.splits or e.columns["official_split"] == split]
        folders = [folder.replace("{split}", split) for folder in adapter.images]
        mistakes += place(mine, folders, places, collector)
    if mistakes:
        what = f"{len(mistakes)} rows do not fit the card"
        collector.errors.append(listed(str(request.root), what, mistakes))
    places.tell()
    return collector.scan()


def _files(adapter: Parquet, root: Path, split: str) -> list[Path]:
    pattern = adapter.table.replace("{split}", split)
    files = sorted(f for f in root.glob(pattern) if f.is_file() and not f.name.startswith("."))
    if not files:
        there = sorted(str(f.relative_to(root)) for f in root.rglob("*.parquet"))[:10]
        what = f"no file matches {pattern}"
        what += f" (there are: {', '.join(there)})" if there else ""
        raise problem(
            str(root), what, repair="fetch the data set again, or correct adapter.table in the card"
        )
    return files


def _entries(adapter: Parquet, request: Request, file: Path, split: str) -> list[Entry]:
    """The rows of one file; DiscernError with all that do not fit."""
    try:
        with pq.ParquetFile(file) as stored:
            return _read(adapter, request, file, split, stored)
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise problem(
            str(file), f"cannot be read as Parquet ({first})", repair="fetch the file again"
        ) from error


def _read(adapter: Parquet, request: Request, file: Path, split: str, stored: pq.ParquetFile) -> list[Entry]:
    schema = stored.schema_arrow
    header = [*(n for n in schema.names if n != "split"), "split"] if split else schema.names
    columns = mappings(adapter, header)
    require(header, columns.values(), file)
    name = str(file.relative_to(request.root))
    pictures = {
        column: _Pictures(stored, columns[column], name)
        for column in ("path", "mask_path")
        if _holds_bytes(schema, columns.get(column))
    }
    texts = {column: source for column, source in columns.items() if column not in pictures}
    values = {n: _column(stored, n) for n in needed(texts.values()) if n in schema.names}
    if split:
        values["split"] = [split] * stored.metadata.num_rows
    label = _Label(adapter, schema, columns["label"])
    entries: list[Entry] = []
    mistakes: list[str] = []
    for i in range(stored.metadata.num_rows):
        row = TableRow(f"{file}, row {i}", {n: column[i] for n, column in values.items()})
        try:
            entries.append(_entry(row, texts, pictures, i, label, split, request))
        except DiscernError as error:
            mistakes.append(str(error))
    if mistakes:
        raise listed(str(file), f"{len(mistakes)} rows do not fit the card", mistakes)
    return entries


def _entry(
    row: TableRow,
    texts: dict[str, Source],
    pictures: dict[str, _Pictures],
    i: int,
    label: _Label,
    split: str,
    request: Request,
) -> Entry:
    own = split or (cell(row, texts["official_split"]) if "official_split" in texts else None)
    if not request.pooled(own or None):  # is only counted: its label and picture need not fit
        return Entry(row.where, "", "", columns={"official_split": own})
    entry = table_entry(row, {k: v for k, v in texts.items() if k != "path"}, label.of(row), split)
    if "path" in pictures:
        picture = pictures["path"]
        entry.inside, entry.path, entry.image_id = (
            picture.filled[i],
            picture.place(i, row.where),
            picture.names[i],
        )
        if not entry.path:
            raise problem(row.where, "has no picture")
    else:
        entry.path = relative(cell(row, texts["path"]) or "", row.where)
    if "mask_path" in pictures and (mask := pictures["mask_path"].place(i, row.where)):
        entry.masks = (mask,)
    return entry


def _holds_bytes(schema: pa.Schema, source: Source | None) -> bool:
    if not isinstance(source, str) or source not in schema.names:
        return False
    kind = schema.field(source).type
    if pa.types.is_struct(kind):
        if kind.get_field_index("bytes") < 0:
            raise problem(f"column '{source}'", f"is a record without `bytes`: {kind}")
        return True
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class _Pictures:
    """One column of pictures: which rows have bytes, and the names that they came with."""

    def __init__(self, stored: pq.ParquetFile, source: Source, file: str):
        assert isinstance(source, str)
        if set(source) & set("#[]"):
            raise problem(file, f"column '{source}': pictures are not read from a column with # or []")
        self._source, self._file = source, file
        kind = stored.schema_arrow.field(source).type
        record = pa.types.is_struct(kind)
        n = stored.metadata.num_rows
        self.names = [""] * n
        if record and kind.get_field_index("path") >= 0:
            column = stored.read(columns=[f"{source}.path"])[source]
            self.names = [name or "" for name in pc.struct_field(column, "path").to_pylist()]
        leaf = f"{source}.bytes" if record else source
        self.filled = [True] * n if _has_all(stored, leaf) else _filled(stored, leaf, source)

    def place(self, i: int, where: str) -> str:
        """The picture's locator; the file that it names where it has no bytes; '' where it has neither."""
        if self.filled[i]:
            return f"{self._file}#{self._source}[{i}]"
        return relative(self.names[i], where) if self.names[i] else ""


def _has_all(stored: pq.ParquetFile, leaf: str) -> bool:
    """Whether the file's statistics say that no value is null."""
    for group in (stored.metadata.row_group(i) for i in range(stored.metadata.num_row_groups)):
        chunks = [group.column(i) for i in range(group.num_columns)]
        statistics = next(c.statistics for c in chunks if c.path_in_schema == leaf)
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return False
    return True


def _filled(stored: pq.ParquetFile, leaf: str, source: str) -> list[bool]:
    found: list[bool] = []
    for batch in stored.iter_batches(batch_size=BATCH, columns=[leaf]):
        column = batch.column(source)
        values = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
        found += values.is_valid().to_pylist()
    return found


def _column(stored: pq.ParquetFile, name: str) -> list[str]:
    return [_text(value) for value in stored.read(columns=[name])[name].to_pylist()]


def _text(value: Any) -> str:
    """A value as the text that a CSV would hold; yes and no are 1 and 0, lists are JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return json.dumps(value)
    return integer(str(value)) if isinstance(value, float) else str(value).strip()


class _Label:
    """Labels as class names: numbers count the names in the file's own metadata, where it has them.

    The card's order of classes may be another, and its `labels` are stronger than both.
    """

    def __init__(self, adapter: Parquet, schema: pa.Schema, source: Source):
        self._source, self._labels = source, adapter.labels
        self._names = _hub_names(schema, source) if isinstance(source, str) else []

    def of(self, row: TableRow) -> str:
        """The label of one row."""
        label = cell(row, self._source) or ""
        if label in self._labels or not label.isdecimal() or int(label) >= len(self._names):
            return label
        return self._names[int(label)]


def _hub_names(schema: pa.Schema, column: str) -> Sequence[str]:
    """Class names that the library `datasets` stores with a column of numbers."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _name(entries: list[Entry]) -> None:
    """Ids from the names that pictures came with, if each has one of its own; else file and row."""
    names = [entry.image_id.replace("\\", "/").lstrip("/") for entry in entries]
    if all(names) and len(set(names)) == len(names):
        ids = path_ids(names)
    else:
        ids = [_row_id(entry.path) if entry.path else "" for entry in entries]
    for entry, name in zip(entries, ids, strict=True):
        entry.image_id = name


def _row_id(locator: str) -> str:
    row = int(locator.rpartition("[")[2][:-1])
    return f"{file_behind(locator).with_suffix('')}_{row:06d}"
