"""How a replica is written: files, sheets, and the litter that real folders hold."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """One file; its folder is made if need be."""
    try:
        _put(path, content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        _put(path, content)


def _put(path: Path, content: bytes) -> None:
    # Half the time of Path.write_bytes, which counts with 30,000 files.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(handle, content)
    finally:
        os.close(handle)


def sheet(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    line_end: str = "\n",
    bom: bool = False,
) -> None:
    """A CSV, with Windows line ends or a byte-order mark if asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator=line_end)
        writer.writerow(header)
        writer.writerows(rows)


def scaled(count: int, scale: float) -> int:
    """``count`` at ``scale``, at least one of what there is."""
    return min(count, max(1, math.ceil(count * scale))) if count else 0


def litter(folder: Path) -> None:
    """What Windows, macOS and archive programs leave in a folder of pictures."""
    write(folder / "Thumbs.db", b"\xd0\xcf\x11\xe0 thumbnails")
    write(folder / ".DS_Store", b"\0\0\0\1Bud1")
    write(folder / "desktop.ini", b"[.ShellClassInfo]\r\n")


def macosx(root: Path, names: Iterable[str]) -> None:
    """The resource forks that an archive made on macOS holds beside the files ``names``."""
    for name in names:
        place = Path(name)
        write(root / "__MACOSX" / place.parent / f"._{place.name}", b"\0\5\x16\7 resource fork")
