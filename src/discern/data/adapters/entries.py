"""Images as a table or a function names them, and how they are found among the files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from discern.adapter_card import Sheet
from discern.data.adapters.places import Places, below, relative
from discern.data.adapters.rows import Collector
from discern.data.tables import Source, TableRow, cell
from discern.errors import DiscernError, problem

OPTIONAL = ("group", "volume", "official_split", "mask_path", "boxes")


@dataclass(slots=True)
class Entry:
    """One image before its files were looked for; ``where`` is its line or row, for messages."""

    where: str
    path: str
    label: str
    masks: tuple[str, ...] = ()
    columns: dict[str, Any] = field(default_factory=dict)  # the manifest columns that need no more work
    image_id: str = ""
    inside: bool = False  # the picture lies in the table itself, and `path` is its locator


def mappings(adapter: Sheet, header: Iterable[str]) -> dict[str, Source]:
    """Manifest column -> what is read for it: the card's mapping, or a column of the same name."""
    columns: dict[str, Source] = {"path": "path", "label": "label"}
    columns.update({str(name): source for name, source in adapter.columns.items()})
    there = set(header)
    return columns | {name: name for name in OPTIONAL if name not in columns and name in there}


def table_entry(row: TableRow, columns: dict[str, Source], label: str | None, split: str) -> Entry:
    """The image of one row of a table; DiscernError for values that are no paths or boxes.

    Without a mapping of `path` the entry has none yet.
    """
    plain = {
        name: cell(row, columns[name]) for name in ("group", "volume", "official_split") if name in columns
    }
    mask = cell(row, columns["mask_path"]) if "mask_path" in columns else None
    boxes = cell(row, columns["boxes"]) if "boxes" in columns else None
    return Entry(
        row.where,
        relative(cell(row, columns["path"]) or "", row.where) if "path" in columns else "",
        label or "",
        (relative(mask, row.where, "mask_path"),) if mask else (),
        plain | ({"official_split": split} if split else {}) | {"boxes": boxes_of(boxes, row.where)},
    )


def boxes_of(value: Any, where: str) -> list[list[int]] | None:
    """Boxes as lists of x0, y0, x1, y1, also from their JSON; None for none."""
    if value is None or value == "":
        return None
    try:
        lists = json.loads(value) if isinstance(value, str) else value
        boxes = [[int(v) for v in box] for box in lists]
        valid = all(len(b) == 4 and b[0] < b[2] and b[1] < b[3] for b in boxes)
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise problem(where, f"boxes are not JSON lists of x0, y0, x1, y1: {value}")
    return boxes


def place(entries: list[Entry], folders: Sequence[str], places: Places, collector: Collector) -> list[str]:
    """Give each entry's files their places on disk and hand it to the collector; returns the mistakes.

    ``folders``: where images are looked for, first where most are. Masks may also lie below the root.
    Files that are not there are noted as absent, unless their images are outside the pool anyhow.
    """
    pooled = [e for e in entries if collector.wanted(e.label, e.columns.get("official_split"))]
    folder = places.best(folders, (entry.path for entry in pooled))
    mistakes = []
    for entry in pooled:
        try:
            others = (places.find(below(other, entry.path)) for other in folders)
            found = places.find(below(folder, entry.path)) or next(filter(None, others), None)
            entry.path = found or _found(below(folder, entry.path), places, collector)
            entry.masks = tuple(_mask(mask, folder, places, collector) for mask in entry.masks)
        except DiscernError as error:
            mistakes.append(f"{entry.where}: {error}")
    for entry in entries:
        columns = entry.columns | {"mask_paths": entry.masks}
        collector.add(entry.path, entry.label, entry.where, entry.image_id, **columns)
    return mistakes


def _mask(path: str, folder: str, places: Places, collector: Collector) -> str:
    return places.find(path) or _found(below(folder, path), places, collector)


def _found(path: str, places: Places, collector: Collector) -> str:
    if found := places.find(path):
        return found
    collector.absent.add(path)
    return path
