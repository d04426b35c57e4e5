"""What every adapter makes: rows, one for each image, what it left out and why, and all that is wrong."""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from discern.data.pictures.containers import file_behind
from discern.data.pictures.images import DICOM_SUFFIXES, SUFFIXES
from discern.data.pictures.volumes import is_volume, without_suffix
from discern.errors import DiscernError, did_you_mean, listed

KNOWN = SUFFIXES | DICOM_SUFFIXES  # of names, what is no part of an image's id


@dataclass(frozen=True, slots=True)
class Row:
    """One image as the data set describes it; paths are relative to the root."""

    image_id: str
    path: str
    label_name: str
    group: str | None = None
    volume: str | None = None
    official_split: str | None = None
    mask_paths: tuple[str, ...] = ()  # of one image; several are merged
    boxes: list[list[int]] | None = None


@dataclass
class Scan:
    """Rows, and what did not become one.

    ``left_out``: image files that the card's pattern leaves out. ``left_out_labels``: numbers of images
    of labels that the card maps to null. ``absent``: paths in rows that lead to no file. ``errors``: all
    that is wrong, reported together.
    """

    rows: list[Row]
    left_out: list[str] = field(default_factory=list)
    left_out_labels: dict[str, int] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    errors: list[DiscernError] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """What an adapter is asked: where the files lie, what the labels may be, which parts are wanted."""

    root: Path
    classes: list[str]
    pool: list[str] | None = None  # official splits; null: all
    volumes: bool = False  # images are NIfTI volumes, and pictures beside them are not looked at

    def parts(self, splits: list[str]) -> list[str]:
        """The official splits that must be read; [''] for a layout that has none."""
        wanted = [s for s in splits if self.pooled(s)]
        return wanted if splits else [""]

    def pooled(self, official_split: str | None) -> bool:
        """Whether images of an official split are in the pool."""
        return self.pool is None or official_split in self.pool


class Collector:
    """Turns labels into classes while rows are read, and keeps all mistakes until the end.

    ``indexed``: labels may also be numbers, which count the classes in canonical order. ``nameless``
    says what an image with an empty label is.
    """

    def __init__(
        self,
        request: Request,
        labels: dict[str, str | None],
        indexed: bool = False,
        nameless: str = "an empty label",
    ):
        numbers = {str(i): name for i, name in enumerate(request.classes)} if indexed else {}
        self._known: dict[str, str | None] = {**{c: c for c in request.classes}, **numbers, **labels}
        self._request = request
        self._nameless = nameless
        self._unknown: dict[str, list[str]] = defaultdict(list)
        self._skipped: Counter[str] = Counter()
        self._rows: list[Row] = []
        self.left_out: list[str] = []
        self.absent: set[str] = set()
        self.errors: list[DiscernError] = []

    def wanted(self, label: str, official_split: str | None) -> bool:
        """Whether an image's files are needed: it is in the pool, and its label is not left out."""
        return self._request.pooled(official_split) and self._known.get(self._key(label), "") is not None

    def _key(self, label: str) -> str:
        return label if label in self._known else integer(label)

    def add(self, path: str, label: str, where: str, image_id: str = "", **columns: Any) -> None:
        """One image; ``where`` is the file, line or array of its label, for messages.

        ``image_id``: where the path does not name the image; given for all images of a data set or none.
        """
        label = self._key(label)
        if not self._request.pooled(columns.get("official_split")):
            # Is only counted, so that its label and path need not fit.
            self._rows.append(Row(image_id or where, path, label, **columns))
        elif label not in self._known:
            self._unknown[label].append(where)
        elif (name := self._known[label]) is None:
            self._skipped[label] += 1
        else:
            self._rows.append(Row(image_id, path, name, **columns))

    def scan(self, below: str = "") -> Scan:
        """The rows; ids that were not given are the paths below the folder ``below`` without suffix.

        Labels that are neither classes nor in the card's ``labels`` are one error more.
        """
        errors = [*self.errors, *self._unknown_labels()]
        names = iter(path_ids([row.path for row in self._rows if not row.image_id], below))
        rows = [row if row.image_id else replace(row, image_id=next(names)) for row in self._rows]
        return Scan(rows, self.left_out, dict(self._skipped), self.absent, errors)

    def _unknown_labels(self) -> list[DiscernError]:
        if not self._unknown:
            return []
        lines = [
            f"{self._spelt(label)} ({len(places)} images, first {places[0]})"
            for label, places in sorted(self._unknown.items())
        ]
        error = listed(
            str(self._request.root),
            f"{len(lines)} unknown labels",
            lines,
            repair="allowed are " + ", ".join(self._known) + "; map others under adapter.labels in the "
            "card, to null if their images are to be left out",
        )
        return [error]

    def _spelt(self, label: str) -> str:
        if not label:
            return self._nameless
        folded = {known.casefold(): known for known in self._known}
        near = did_you_mean(folded.get(label.casefold(), label), self._known)
        return f"'{label}'{near}"


def integer(value: str) -> str:
    """'3.0' -> '3': tables with empty cells are often saved with floating-point labels."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", value)


def path_ids(paths: list[str], below: str = "") -> list[str]:
    """Paths below ``below`` without their suffixes, which stay where two would otherwise be equal."""
    prefix = "" if PurePosixPath(below) == PurePosixPath() else f"{PurePosixPath(below)}/"
    relative = [path.removeprefix(prefix) for path in paths]
    stems = [without_picture_suffix(path) for path in relative]
    count = Counter(stems)
    names = [stem if count[stem] == 1 else path for stem, path in zip(stems, relative, strict=True)]
    return names if len(set(names)) == len(set(relative)) else relative


def without_picture_suffix(path: str) -> str:
    """The path without the suffix of a picture or volume; of other names nothing is cut off.

    Of a locator the path of its file.
    """
    if "#" in path and (file := str(file_behind(path))) != path:
        return posixpath.splitext(file)[0]
    if is_volume(path):
        return without_suffix(path)
    stem, suffix = posixpath.splitext(path)
    return stem if suffix.lower() in KNOWN else path


def examples(names: Iterable[str], n: int = 3) -> str:
    """The first few names, for log lines."""
    shown = list(names)
    return ", ".join(shown[:n]) + (", ..." if len(shown) > n else "")
