"""Which reading of a data set a table shows: a line per data set, printed under every table."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from discern import paths
from discern.config import Study
from discern.contracts import MANIFEST, ContractError, read_table
from discern.dataset_card import DatasetCard
from discern.decoding_card import Decoding, Level, Range


class Size(NamedTuple):
    """Images, share of the largest class in percent, groups, and images without a group; None if unknown."""

    n: int | None
    largest: float | None
    groups: int | None = None
    ungrouped: int | None = None


def size(card: DatasetCard, root: Path) -> Size:
    """The size of a data set from its manifest, else from its card."""
    try:
        table, metadata = read_table(MANIFEST, root / paths.MANIFEST.format(dataset=card.name))
    except ContractError:
        known = [c.count for c in card.classes if c.count is not None]
        if len(known) < len(card.classes) or not sum(known):
            return Size(card.n, None)
        return Size(sum(known), 100 * max(known) / sum(known))
    counts = np.bincount(table["label"].to_numpy(), minlength=len(metadata["classes"]))
    groups = table["group"].to_pylist()
    return Size(
        int(counts.sum()),
        100 * float(counts.max() / counts.sum()),
        len(set(groups) - {None}),
        groups.count(None),
    )


def reading_line(card: DatasetCard, study: Study, protocol: str, found: Size) -> str:
    """'Title (name): n = 1,200, 5 classes; pool: train; window: ct_lung; groups: patient, 300.'"""
    n = "n unknown" if found.n is None else f"n = {found.n:,}"
    parts = [f"{n}, {len(card.classes)} classes", pool_words(card), *decoding_words(card.decoding)]
    if card.reading:
        parts.append(card.reading.rstrip("."))
    if protocol != "image":
        parts.append(group_words(card, found))
    if study.split.duplicates == "together":
        parts.append("near-duplicates on one side of every split")
    return f"{card.title} ({card.name}): {'; '.join(parts)}."


def pool_words(card: DatasetCard) -> str:
    """'pool: all images', or the official splits that form it."""
    return f"pool: {'all images' if card.pool is None else ' + '.join(card.pool)}"


def decoding_words(rule: Decoding) -> list[str]:
    """What differs from the standard rule by which files become 8-bit RGB."""
    standard, words = Decoding(), []
    if rule.window != standard.window:
        words.append(f"window: {_window(rule)}")
    if rule.transparency != standard.transparency:
        words.append(f"transparency: {rule.transparency}")
    if rule.frames != standard.frames:
        words.append(f"frames: {rule.frames}")
    return words


def _window(rule: Decoding) -> str:
    if isinstance(rule.window, Range):
        return f"{rule.window.low:g} to {rule.window.high:g}"
    if isinstance(rule.window, Level):
        return f"centre {rule.window.center:g}, width {rule.window.width:g}"
    return str(rule.window)


def group_words(card: DatasetCard, found: Size) -> str:
    """'groups: patient, 300', or 'no group key'."""
    if not card.group_key:
        return "no group key"
    words = f"groups: {card.group_key}"
    if found.groups is not None:
        words += f", {found.groups:,}"
    return words + (f" ({found.ungrouped:,} images without one)" if found.ungrouped else "")
