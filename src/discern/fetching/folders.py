"""Folders that are whole or absent: made under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from discern.errors import problem


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling folder that takes the place of ``folder`` on success."""
    folder = folder.resolve()  # a link to a larger disk stays a link
    new, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    for stale in (new, old):  # of a job that was killed
        shutil.rmtree(stale, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        for stale in (new, old):
            shutil.rmtree(stale, ignore_errors=True)


def hand_over(file: Path, place: Path) -> None:
    """Give a file a second name ``place``, as a copy where links cannot be; DiscernError if it is taken."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(place):
        raise problem(str(file), f"would overwrite {place}", repair="correct the sources in the card")
    try:
        os.link(file, place)
    except OSError:  # another file system
        shutil.copyfile(file, place)


def joined(parts: Iterable[tuple[str, Path]], target: Path, near: Path) -> bool:
    """Fill ``target`` with links of these names to these paths; False if two files would have one name.

    Folders of one name become one folder. Links to what lies below ``near`` are relative.
    """
    entries: dict[str, list[Path]] = {}
    for name, path in parts:
        entries.setdefault(name, []).append(path)
    for name, paths in entries.items():
        place = target / name
        if len(paths) == 1:
            path = Path(os.path.abspath(paths[0]))
            inside = path.is_relative_to(os.path.abspath(near))
            place.symlink_to(os.path.relpath(path, target) if inside else path)
            continue
        if not all(path.is_dir() for path in paths):
            return False
        place.mkdir()
        below = [(child.name, child) for path in paths for child in sorted(path.iterdir())]
        if not joined(below, place, near):
            return False
    return True
