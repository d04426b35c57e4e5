"""What was found against what the card says: every difference in words, with its repair.

Nothing is decided by being silent: a difference is either an error, or a variant that the card
tolerates by name (``accepted_n``), and then it stands in the manifest's metadata.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from discern.data.adapters.rows import Row, Scan
from discern.data.preparation.drops import DropList
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError, listed, problem


@dataclass
class Pool:
    """The images that a card means, before they are looked at.

    ``outside``: number of images in each official split that is no part of the pool.
    """

    rows: list[Row]
    dropped: list[Row]
    outside: dict[str, int]
    errors: list[DiscernError] = field(default_factory=list)


def choose(card: DatasetCard, rows: list[Row], where: str) -> Pool:
    """Take the official splits of the pool, and leave out what the card drops."""
    errors = []
    splits = Counter(row.official_split or "" for row in rows)
    inside = rows
    if card.pool is not None:
        inside = [row for row in rows if row.official_split in card.pool]
        for name in card.pool:
            if name not in splits:
                errors.append(problem(where, f"no image has official split '{name}'", allowed=sorted(splits)))
    outside = {name: n for name, n in sorted(splits.items()) if card.pool and name not in card.pool}
    drop = DropList(card.drop)
    kept: list[Row] = []
    dropped: list[Row] = []
    for row in inside:
        (dropped if row.image_id in drop else kept).append(row)
    if unused := drop.unused(where, [row.image_id for row in inside]):
        errors.append(unused)
    return Pool(kept, dropped, outside, errors)


@dataclass
class Counts:
    """Images per class in canonical order, and how they differ from the card.

    ``variant``: the differences in words, where the card tolerates them.
    """

    classes: dict[str, int]
    variant: list[str] = field(default_factory=list)
    errors: list[DiscernError] = field(default_factory=list)


def compare_counts(card: DatasetCard, found: Scan, pool: Pool, where: str) -> Counts:
    """Classes, total and official splits against the card. Damaged images count: they were found."""
    seen = Counter(row.label_name for row in pool.rows)
    counts = Counts({entry.name: seen[entry.name] for entry in card.classes})
    differences = _of_classes(card, counts.classes) + _of_total(card, len(pool.rows))
    differences += _of_official_splits(card, found)
    empty = [f"class '{name}': no images" for name, n in counts.classes.items() if n == 0]
    tolerated = card.n is not None and len(pool.rows) != card.n and len(pool.rows) in card.accepted_n
    if differences and tolerated and not empty:
        counts.variant = differences
    elif differences or empty:
        dropped = sum(found.left_out_labels.values())
        what = (
            f"found other counts than the card ({len(pool.dropped)} dropped by name, "
            f"{len(found.left_out)} left out by the pattern, {dropped} by label)"
        )
        repair = "fetch the data set again; for another release, copy the card and set its counts"
        counts.errors.append(listed(where, what, differences + empty, repair=repair))
    return counts


def _of_classes(card: DatasetCard, counts: dict[str, int]) -> list[str]:
    return [
        f"class '{entry.name}': {counts[entry.name]} images, card says {entry.count}"
        for entry in card.classes
        if entry.count is not None and entry.count != counts[entry.name]
    ]


def _of_total(card: DatasetCard, n: int) -> list[str]:
    if card.n is None or n == card.n:
        return []
    accepted = sorted({card.n, *card.accepted_n})
    return [f"in all: {n} images, card says {' or '.join(map(str, accepted))}"]


def _of_official_splits(card: DatasetCard, found: Scan) -> list[str]:
    """The data set's own parts; of an adapter that reads only the pool's, these."""
    read = Counter(row.official_split for row in found.rows)
    # Which part images of a left-out label were in is not known: so many may be missing in all.
    left_out = sum(found.left_out_labels.values())
    wanted = card.official_splits
    if getattr(card.adapter, "splits", None) and card.pool is not None:
        wanted = {name: n for name, n in wanted.items() if name in card.pool}
    missing = {name: n - read[name] for name, n in wanted.items() if n != read[name]}
    if missing and min(missing.values()) > 0 and sum(missing.values()) <= left_out:
        return []
    return [f"official split '{name}': {read[name]} images, card says {wanted[name]}" for name in missing]
