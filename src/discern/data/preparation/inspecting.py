"""Inspect all images of a data set: what is known is taken, the rest is decoded on every core given."""

from __future__ import annotations

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from discern.data.adapters.rows import Row
from discern.data.pictures.containers import file_behind, split_frame
from discern.data.pictures.images import Pictures
from discern.data.pictures.volumes import is_volume
from discern.data.preparation.inspection import Seen
from discern.data.preparation.inspections import Inspections
from discern.data.preparation.workers import Crew, Worker, in_turn

log = logging.getLogger("discern")

TRIAL = 0.3  # seconds of work in this process, by which the whole is estimated
WORTH = 1.5  # seconds of work that processes are started for
MANY = 1000  # images for which they are started without trying
CHUNK = 0.4  # seconds of work that are handed out at once
LARGEST = 512  # images in a chunk


class Inspected(NamedTuple):
    """A row whose picture or volume decodes. ``pixels`` is equal where two of them are."""

    row: Row
    seen: Seen
    pixels: str


class Damaged(NamedTuple):
    """A row whose picture, mask or boxes cannot be used, and why."""

    row: Row
    reason: str


def inspect_all(
    pictures: Pictures, rows: list[Row], folder: Path, crew: Crew
) -> tuple[list[Inspected], list[Damaged]]:
    """Decode every picture that ``folder`` knows nothing of; both results sorted by image id.

    What is found out is kept in ``folder``, so that a job that was killed goes on where it was.
    """
    entries = Inspections(folder, pictures)
    found: list[tuple[Row, Seen | str]] = []
    unknown = []
    for row in rows:
        if (seen := entries.find(row)) is None:
            unknown.append(row)
        else:
            found.append((row, seen))
    if found:
        log.info("%d of %d images are as they were when they were last inspected", len(found), len(rows))
    bar = tqdm(total=len(rows), initial=len(found), desc="decode", file=sys.stderr, mininterval=10)
    try:
        with bar:
            for chunk, results in _spread(crew, "inspect", unknown):
                for row, seen in zip(chunk, results, strict=True):
                    found.append((row, seen))
                    if not isinstance(seen, str):
                        entries.add(row, seen)
                entries.write(now=False)
                bar.update(len(chunk))
    finally:
        entries.write()
    entries.compact()
    return _sorted_out(found, crew)


def _sorted_out(found: list[tuple[Row, Seen | str]], crew: Crew) -> tuple[list[Inspected], list[Damaged]]:
    usable: list[tuple[Row, Seen]] = []
    damaged = []
    for row, seen in sorted(found, key=lambda one: one[0].image_id):
        reason = seen if isinstance(seen, str) else _outside(row, seen)
        if isinstance(seen, str) or reason:
            damaged.append(Damaged(row, reason))
        else:
            usable.append((row, seen))
    pixels = _pixels(usable, crew)
    return [Inspected(row, seen, pixels.get(seen.sha256, seen.sha256)) for row, seen in usable], damaged


def _outside(row: Row, seen: Seen) -> str:
    if seen.voxels is not None and (row.mask_paths or row.boxes is not None):
        return f"{row.path}: is a volume, whose mask or boxes would not be used"
    for x0, y0, x1, y1 in row.boxes or []:
        if x0 < 0 or y0 < 0 or x1 > seen.width or y1 > seen.height:
            return f"{row.path}: box {x0, y0, x1, y1} outside the picture of {seen.width, seen.height}"
    return ""


def _pixels(usable: list[tuple[Row, Seen]], crew: Crew) -> dict[str, str]:
    """Digest of the decoded picture for each file digest whose shrunken picture another file has too.

    Equal pictures have equal shrunken ones, so no others need to be looked at; nearly all have none.
    """
    alike: dict[tuple[int, int, int], dict[str, int]] = defaultdict(dict)
    for i, (_, seen) in enumerate(usable):
        if seen.voxels is None:
            alike[seen.width, seen.height, seen.small].setdefault(seen.sha256, i)
    several = [i for same in alike.values() if len(same) > 1 for i in same.values()]
    files = [Row(row.image_id, seen.path, row.label_name) for row, seen in (usable[i] for i in several)]
    owners = {usable[i][0].image_id: usable[i][1].sha256 for i in several}
    digests = {seen.sha256: seen.voxels for _, seen in usable if seen.voxels is not None}
    for chunk, results in _spread(crew, "pixels", files):
        digests |= {owners[row.image_id]: pixels for row, pixels in zip(chunk, results, strict=True)}
    return digests


def _spread(crew: Crew, task: str, rows: list[Row]) -> Iterator[tuple[list[Row], list[Any]]]:
    """Chunks of rows with what the task found in them: in this process, and in others where it pays."""
    # An archive is read into memory once for all, so what lies in one is left to threads.
    inside = [row for row in rows if _inside(row.path)]
    files = [row for row in rows if not _inside(row.path)]
    yield from _timed([crew.here] * crew.count, task, _Chunks(inside))
    chunks = _Chunks(files)
    trial = TRIAL if len(files) < MANY else 0.0
    until = time.perf_counter() + trial if crew.count > 1 else None
    yield from _timed([crew.here], task, chunks, until)
    if left := chunks.left():
        small = left < MANY and left * chunks.each < WORTH
        yield from _timed([crew.here] if small else crew.start(), task, chunks)


def _inside(path: str) -> bool:
    return "#" in path and str(file_behind(path)) != split_frame(path)[0]


class _Chunks:
    """Rows in portions that take about equally long; ``each`` is the seconds that one row takes."""

    def __init__(self, rows: list[Row]):
        self._rows, self._next, self.each = rows, 0, 0.0

    def take(self) -> list[Row]:
        """The next portion; [] at the end."""
        size = 1 if self.each == 0 else max(1, min(LARGEST, int(CHUNK / self.each)))
        if self._rows and is_volume(self._rows[0].path):
            size = 1
        first, self._next = self._next, min(self._next + size, len(self._rows))
        return self._rows[first : self._next]

    def left(self) -> int:
        return len(self._rows) - self._next

    def learn(self, n: int, seconds: float) -> None:
        """``n`` rows took one worker so long."""
        self.each = seconds / n


def _timed(
    workers: list[Worker], task: str, chunks: _Chunks, until: float | None = None
) -> Iterator[tuple[list[Row], list[Any]]]:
    def timed(worker: Worker) -> Worker:
        def work(task: str, rows: list[Row]) -> list[Any]:
            started = time.perf_counter()
            found = worker(task, rows)
            chunks.learn(len(rows), time.perf_counter() - started)
            return found

        return work

    def portions() -> Iterator[list[Row]]:
        while until is None or time.perf_counter() < until:
            if not (rows := chunks.take()):
                return
            yield rows

    yield from in_turn([timed(worker) for worker in workers], task, portions())
