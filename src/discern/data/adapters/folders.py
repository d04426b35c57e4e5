"""What folders of pictures and of DICOM files have in common: the walk, labels by folder, file names."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from discern.adapter_card import FileNames
from discern.data.adapters.rows import Collector, Request, Scan
from discern.errors import DiscernError, problem

log = logging.getLogger("discern")

#: Folders that archive programs, file managers and network storage leave behind.
JUNK = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True, slots=True)
class Found:
    """A file: its path below the root, the folders between the layout's folder and it, its name."""

    path: str
    folders: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Part:
    """The folder of one official split, or of all images where ``split`` is empty."""

    adapter: FileNames
    request: Request
    collector: Collector
    split: str

    @property
    def folder(self) -> str:
        """The folder below the root."""
        return self.adapter.folder.replace("{split}", self.split)

    def files(self) -> Iterator[Found]:
        """Every file below the folder, in order of their names."""
        base = self.request.root / self.folder
        return walk(base, str(PurePosixPath(self.folder))) if base.is_dir() else iter(())

    def add(self, file: Found, match: re.Match[str], **columns: Any) -> None:
        """Hand an image to the collector; the groups of its name are stronger than ``columns``."""
        named = {name: value for name, value in match.groupdict().items() if value}
        folder = next(iter(file.folders), "")
        found: dict[str, Any] = {"official_split": self.split or None, "label": folder, **columns} | named
        label = found.pop("label") or ""
        self.collector.add(file.path, label, file.path, **found)

    def nothing(self, ignored: Counter[str], skipped: int, what: str) -> DiscernError:
        """That no image was found, and what was found instead."""
        seen = [f"{skipped} left out by the pattern"] if skipped else []
        seen += [f"{n} other files ({suffix or 'no suffix'})" for suffix, n in ignored.most_common(3)]
        folder = self.request.root / self.folder
        state = "no such folder" if not folder.is_dir() else f"no {what} here"
        renamed = {new: old for old, new in self.adapter.labels.items()}
        classes = ", ".join(renamed.get(name, name) for name in self.request.classes)
        return problem(
            str(folder),
            f"{state}; found {', '.join(seen)}" if seen else state,
            repair=f"place one folder per class here: {classes}",
        )


def read_parts(adapter: FileNames, request: Request, read: Callable[[Part], None]) -> Scan:
    """What ``read`` collects from the folder, or from the folder of each official split."""
    collector = Collector(request, adapter.labels, nameless="no class folder")
    for split in request.parts(adapter.splits):
        try:
            read(Part(adapter, request, collector, split))
        except DiscernError as error:  # what is wrong with the next folder is told as well
            collector.errors.append(error)
    return collector.scan("" if adapter.splits else adapter.folder)


def walk(base: Path, below: str) -> Iterator[Found]:
    """Files below ``base``, sorted; linked folders are followed once, hidden and junk ones are not."""
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(base, followlinks=True, onerror=_refuse):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen:  # a link to a folder above, or to one that was read
            log.info("%s: a link to a folder that was read already, passed over", place)
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in JUNK)
        inside = os.path.relpath(place, base)
        parts = () if inside == os.curdir else tuple(inside.split(os.sep))
        prefix = "/".join((*(() if below == "." else (below,)), *parts))
        for name in sorted(files):
            if not name.startswith("."):
                yield Found(f"{prefix}/{name}" if prefix else name, parts, name)


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed is not an empty one."""
    raise problem(str(error.filename), f"cannot be listed ({error.strerror})") from error
