"""Reads a replica as the workflow does: finds its folder, scans it, prepares it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discern.contracts import MANIFEST, read_json, read_table
from discern.data.adapters import Row, Scan, scan
from discern.data.originals.fetch import fetch_dataset
from discern.data.originals.layout import find_root
from discern.data.preparation.manifest import prepare_dataset
from discern.dataset_card import DatasetCard
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
CARDS = Registry([ROOT / "registry"]).datasets


@functools.lru_cache(maxsize=32)  # several tests look at one scan; replicas in use do not change
def scanned(name: str, place: Path) -> Scan:
    """Rows of a data set or reading whose files lie at ``place`` or below it."""
    card = CARDS[name]
    root = find_root(card, place)
    assert root is not None, f"{place} does not have the layout of {name}"
    return scan(card, root)


def pooled(name: str, place: Path) -> list[Row]:
    """Rows of the pool, with those that the card drops by name."""
    card = CARDS[name]
    rows = scanned(name, place).rows
    return [row for row in rows if card.pool is None or row.official_split in card.pool]


def expected(name: str) -> dict[str, int | None]:
    """Class -> number of images that the card states."""
    return {entry.name: entry.count for entry in CARDS[name].classes}


def labels(rows: list[Row]) -> dict[str, int]:
    """Class -> number of rows."""
    return dict(Counter(row.label_name for row in rows))


def groups(rows: list[Row]) -> int:
    """Number of groups; an image without one is a group of its own."""
    return len({row.group or f"alone {row.image_id}" for row in rows})


def sized(name: str, counts: Mapping[str, int]) -> DatasetCard:
    """The card with other counts: those of a smaller replica."""
    card = CARDS[name]
    classes = [entry.model_copy(update={"count": counts[entry.name]}) for entry in card.classes]
    changes = {"classes": classes, "expected_n": None, "accepted_n": [], "official_splits": {}}
    return card.model_copy(update=changes)


def prepared(
    card: DatasetCard, place: Path, folder: Path, threads: int = 2
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Manifest rows, its metadata and the audit of files placed by hand; ``folder`` takes what is made."""
    record, manifest, audit = (folder / n for n in ("made/fetched.json", "m.parquet", "m.audit.json"))
    record.parent.mkdir(parents=True, exist_ok=True)
    fetch_dataset(card, place, folder / "downloads", record)
    prepare_dataset(card, record, manifest, audit, folder / "pictures", folder / "inspected", threads)
    table, metadata = read_table(MANIFEST, manifest)
    return table.to_pylist(), metadata, read_json(audit)
