"""Where in a folder a data set begins: the one folder in which everything that its card names lies.

Archives add a top folder, mirrors double it, people unpack into one of their own. So the folder is looked
for at the place and up to three levels below it. Nothing heavy is imported: the preview of a study asks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from discern.adapter_card import Csv, DicomFolder, FileNames, Npz, Parquet, Sheet
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError, listed, problem

DEPTH = 3  # levels below a place
WIDE = 100  # a folder with more sub-folders holds data, not another level of packaging

#: What archive programs and file managers leave behind, in lower case; hidden names are no content either.
JUNK = frozenset(
    {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"}
)

#: The workflow keeps its record in the folder where a data set is placed by default.
RECORD = "fetched.json"


@dataclass(frozen=True)
class Anchor:
    """Something that must lie in the data set's folder: one of ``paths``, which are relative to it."""

    paths: tuple[str, ...]
    kind: str = "file"  # or 'folder', 'pattern', 'pictures': a folder whose spelling a table may get wrong

    def found(self, root: Path) -> bool:
        """Whether it lies in ``root``."""
        if self.kind == "folder":
            return any((root / path).is_dir() for path in self.paths)
        if self.kind == "pictures":
            return any((root / path).is_dir() or spelt(root, path) for path in self.paths)
        if self.kind == "pattern":
            return any(next(root.glob(path), None) is not None for path in self.paths)
        return any((root / path).is_file() for path in self.paths)

    def __str__(self) -> str:
        mark = "/" if self.kind in ("folder", "pictures") else ""
        return " or ".join(f"{path}{mark}" for path in self.paths)


def anchors(card: DatasetCard) -> list[Anchor]:
    """What the card's adapter reads by name; empty for a layout that names nothing."""
    adapter = card.adapter
    if isinstance(adapter, Npz):
        parts = _parts(adapter.splits, card.pool)
        return [Anchor((name,)) for name in dict.fromkeys(_of(adapter.file, split) for split in parts)]
    if isinstance(adapter, Sheet):
        return _of_sheet(adapter, _parts(adapter.splits, card.pool))
    if isinstance(adapter, FileNames):
        return _of_folders(adapter, _parts(adapter.splits, card.pool), card.class_names)
    return []


def find_root(card: DatasetCard, place: Path) -> Path | None:
    """The data set's folder at ``place`` or below it, the shallowest; None if there is none.

    Where the card's paths begin with the name of ``place`` itself, the folder above it. Raises
    DiscernError naming them if several lie equally deep.
    """
    wanted = anchors(card)
    for level in _levels(place):
        found = [folder for folder in level if all(anchor.found(folder) for anchor in wanted)]
        if len(found) > 1:
            raise listed(
                f"data set '{card.name}'",
                f"{len(found)} folders in {place} hold what was looked for",
                [str(folder) for folder in found],
                repair=f"point to the one that is meant: `data: {{{card.name}: FOLDER}}` in the study",
            )
        if found:
            return found[0]
    name = place.absolute().name
    inside = [path for anchor in wanted for path in anchor.paths]
    if wanted and all(PurePosixPath(path).parts[0] == name for path in inside):
        above = place.parent if place.name else place.absolute().parent
        return above if all(anchor.found(above) for anchor in wanted) else None
    return None


def layout_problem(card: DatasetCard, root: Path) -> str | None:
    """What is wrong with ``root`` as the folder of a data set that was fetched before, or None."""
    from discern.data.originals.explain import wrong_layout

    if content(root) and all(anchor.found(root) for anchor in anchors(card)):
        return None
    return str(wrong_layout(card, root))


def content(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder but hidden ones, junk and the workflow's own record; sorted by name.

    Raises DiscernError if the folder must not be read.
    """
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            kept = [e for e in entries if e.name != RECORD and not is_junk(e.name)]
    except OSError as error:
        raise problem(
            str(folder), f"cannot be read ({error.strerror})", repair="give this account the right to read it"
        ) from error
    return sorted(kept, key=lambda entry: entry.name)


def is_junk(name: str) -> bool:
    """Whether a file or folder of that name is no content."""
    return name.startswith(".") or name.lower() in JUNK


def spelt(root: Path, path: str) -> str | None:
    """``path`` as it is spelt below ``root``, where only upper and lower case differ; None if not there."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        folder = root.joinpath(*parts)
        names = os.listdir(folder) if folder.is_dir() else []
        same = [part] if part in names else [n for n in names if n.casefold() == part.casefold()]
        if not same:
            return None
        parts.append(same[0])
    return "/".join(parts)


def folders_below(place: Path) -> Iterator[Path]:
    """``place`` and the folders that may be the data set's, from the top."""
    for level in _levels(place):
        yield from level


def _levels(place: Path) -> Iterator[list[Path]]:
    level = [place] if place.is_dir() else []
    for _ in range(DEPTH + 1):
        if not level:
            return
        yield level
        level = [below for folder in level for below in _narrow(folder)]


def _narrow(folder: Path) -> list[Path]:
    try:
        below = [Path(entry.path) for entry in content(folder) if entry.is_dir()]
    except DiscernError:  # not ours to read
        return []
    return below if len(below) <= WIDE else []


def _parts(splits: list[str], pool: list[str] | None) -> list[str]:
    """The official splits that are read; [''] for a layout without."""
    return [s for s in splits if pool is None or s in pool] if splits else [""]


def _of_sheet(adapter: Sheet, parts: list[str]) -> list[Anchor]:
    found = []
    pattern = isinstance(adapter, Parquet) and any(character in adapter.table for character in "*?[")
    for split in parts:
        found.append(Anchor((_of(adapter.table, split),), "pattern" if pattern else "file"))
    if isinstance(adapter, Csv) and adapter.join is not None:
        found.append(Anchor((adapter.join.table,)))
    for split in parts:
        folders = _picture_folders(adapter, split)
        if folders and "" not in folders:
            found.append(Anchor(folders, "pictures"))
    return list(dict.fromkeys(found))


def _picture_folders(adapter: Sheet, split: str) -> tuple[str, ...]:
    """Where the pictures of a table may lie, as far as the card alone tells; '' is everywhere."""
    source = adapter.columns.get("path", "path")
    text = _of(source, split) if isinstance(source, str) and "{" in source else ""
    fixed = text.partition("{")[0].rpartition("/")[0]
    places = [_joined(_of(folder, split), fixed) for folder in adapter.images]
    return tuple(dict.fromkeys(places))


def _of_folders(adapter: FileNames, parts: list[str], classes: list[str]) -> list[Anchor]:
    bases = list(dict.fromkeys(_of(adapter.folder, split) for split in parts))
    in_names = "label" in re.compile(adapter.pattern).groupindex
    if in_names or (isinstance(adapter, DicomFolder) and adapter.label):
        return [Anchor((base,), "folder") for base in bases if base]
    found = [Anchor((base,), "folder") for base in bases if base and len(bases) > 1]
    for name in classes:
        # A part may lack a class, and several folders may be one.
        places = tuple(_joined(base, folder) for folder in _names(adapter, name) for base in bases)
        found.append(Anchor(places, "folder"))
    return found


def _names(adapter: FileNames, name: str) -> Iterable[str]:
    """Folder names that mean a class."""
    names = [folder for folder, meant in adapter.labels.items() if meant == name]
    return dict.fromkeys([*names, name] if adapter.labels.get(name, name) == name else names)


def _of(text: str, split: str) -> str:
    return text.replace("{split}", split) if split else text


def _joined(folder: str, name: str) -> str:
    return "/".join(part.strip("/") for part in (folder, name) if part.strip("/"))
