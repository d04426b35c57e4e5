"""Rows from files: one module per adapter kind turns a data set's own layout into the same rows.

Nothing is decoded here. Every mistake names file, line, the value seen and the values allowed.
"""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from discern.data.adapters.rows import Request, Row, Scan
from discern.data.pictures.volumes import is_volume
from discern.data.preparation.drops import DropList
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError, listed

__all__ = ["Request", "Row", "Scan", "scan"]


def scan(card: DatasetCard, root: Path) -> Scan:
    """Rows of a data set under ``root``, in any order; raises DiscernError for what does not fit the card.

    Rows outside the card's pool are there to be counted; their paths and labels are not checked.
    """
    # Each kind is a module with a function `read(adapter, request)`; only that one is imported.
    kind = importlib.import_module(f"discern.data.adapters.{card.adapter.kind}")
    request = Request(root, card.class_names, card.pool, card.volumetric)
    found: Scan = kind.read(card.adapter, request)
    rows = [row for row in found.rows if request.pooled(row.official_split)]
    if errors := [*found.errors, *_mistakes(card, root, rows, found.absent)]:
        raise DiscernError("\n".join(map(str, errors)))
    return found


def _mistakes(card: DatasetCard, root: Path, rows: list[Row], absent: set[str]) -> Iterator[DiscernError]:
    where = str(root)
    if other := [row.path for row in rows if is_volume(row.path) != card.volumetric]:
        wanted, seen = ("volumes", "pictures") if card.volumetric else ("pictures", "volumes")
        yield listed(
            where,
            f"the card's modality says that images are {wanted}, {len(other)} are {seen}",
            other,
            repair="end the card's modality with 'volume' if its images are NIfTI volumes, else do not",
        )
    if odd := [repr(row.path) for row in rows if not _is_utf8(row.path)]:
        repair = "rename them, for one with convmv, or unpack the archive again with the right encoding"
        yield listed(where, f"the names of {len(odd)} files are not UTF-8", odd, repair=repair)
    if twice := _repeated((row.path, row.label_name) for row in rows):
        yield listed(where, f"{len(twice)} images are named more than once", twice)
    elif twice := _repeated((row.image_id, row.path) for row in rows):
        yield listed(where, f"{len(twice)} image ids stand for several images", twice)
    dropped = DropList(card.drop)
    kept = [row for row in rows if row.image_id not in dropped] if absent else []
    named = [path for row in kept for path in (row.path, *row.mask_paths) if path in absent]
    if named:
        yield listed(
            where,
            f"{len(named)} files that the table names are not there",
            named,
            repair="complete the data set, or correct adapter.images or adapter.columns.path in the card; "
            "images that nobody has can be named under `drop`",
        )


def _repeated(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """What is named more than once, with all that it goes with."""
    seen: dict[str, list[str]] = defaultdict(list)
    for name, other in pairs:
        seen[name].append(other)
    return [f"{name} ({', '.join(others)})" for name, others in seen.items() if len(others) > 1]


def _is_utf8(text: str) -> bool:
    return not re.search("[\udc80-\udcff]", text)
