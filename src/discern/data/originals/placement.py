"""A person's own files: used where they lie and never changed.

Archives are unpacked into the workflow's own folder. Where a data set lies in several of them, or partly
beside them, a folder of links brings the parts together.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from discern.adapter_card import Csv
from discern.data.originals.layout import anchors, content, find_root
from discern.data.tables import CsvTable, cell
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError, listed, problem
from discern.fetching.archives import SUFFIXES, is_archive, unpack
from discern.fetching.folders import joined, replaced
from discern.fetching.kaggle import archive_name
from discern.fetching.transfer import digest_of
from discern.files import read_json, sha256_file, write_json
from discern.sources import DatasetSource, HubFile, KaggleSource, ManualFile, UrlFile

MOST = 20  # archives in one folder; more are somebody's downloads, not a data set


@dataclass
class Placed:
    """What is at a place: SHA-256 of the files that the card or this module knows, and archives unpacked."""

    place: Path
    own: Path  # the workflow's folder
    files: dict[str, str] = field(default_factory=dict)
    unpacked: list[Path] = field(default_factory=list)

    def root(self, card: DatasetCard, fetched: Path | None = None) -> Path | None:
        """The data set's folder, or None if the card's layout is not there.

        ``fetched``: further parts of the data set that were downloaded. Raises DiscernError for a file
        with another digest than the card's, or an archive that cannot be unpacked.
        """
        self._check(card)
        direct = self._direct(card)
        archives = archives_at(self.place)
        if direct is not None and (not archives or has_first_picture(card, direct) is not False):
            return direct
        self._unpack(archives)
        return self._of_archives(card, fetched, direct)

    def _check(self, card: DatasetCard) -> None:
        here = [self.place] if self.place.is_file() else [Path(e.path) for e in content(self.place)]
        for file in here:
            for algorithm, digest in known_digests(card, file.name):
                if (seen := digest_of(file, algorithm)) != digest:
                    raise problem(
                        str(file),
                        f"{algorithm} is {seen}, the card says {digest}; the file is left alone and not used",
                        repair="get it again; for another release, copy the card and change its digest",
                    )
                self.files[file.name] = sha256_file(file)

    def _direct(self, card: DatasetCard) -> Path | None:
        """The folder without unpacking anything."""
        if self.place.is_file():
            return None if is_archive(self.place) else beside(card, self.place)
        if not anchors(card) and all(is_archive(Path(e.name)) for e in content(self.place)):
            return None
        return find_root(card, self.place)

    def _unpack(self, archives: list[Path]) -> None:
        folder = self.own / "unpacked"
        if len(archives) > MOST:
            raise listed(
                str(self.place),
                f"{len(archives)} archives, and it is not clear which are meant",
                [archive.name for archive in archives],
                repair="point to the archive, or put those of the data set into a folder of their own",
            )
        kept = {archive.name for archive in archives}
        for stale in folder.iterdir() if folder.is_dir() else []:
            if stale.name.removesuffix(".json") not in kept:
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        self.unpacked = [self._once(archive, folder / archive.name) for archive in archives]

    def _once(self, archive: Path, target: Path) -> Path:
        """Unpack an archive unless that was done before."""
        digest = self.files.setdefault(archive.name, sha256_file(archive))
        note = target.with_name(f"{target.name}.json")
        if target.is_dir() and note.is_file() and read_json(note) == {"sha256": digest}:
            return target
        note.unlink(missing_ok=True)
        with replaced(target) as new:
            unpack(archive, new)
        write_json(note, {"sha256": digest})
        return target

    def _of_archives(self, card: DatasetCard, fetched: Path | None, direct: Path | None) -> Path | None:
        """The folder in one archive, in all together, or in all with a folder for each; else ``direct``."""
        alone = [] if fetched else [root for part in self.unpacked if (root := find_root(card, part))]
        if len(alone) > 1 and anchors(card):
            raise listed(
                f"data set '{card.name}'",
                f"{len(alone)} archives in {self.place} hold the whole of it",
                [str(root) for root in alone],
                repair=f"point to the one that is meant: `data: {{{card.name}: ARCHIVE}}` in the study",
            )
        if len(alone) == 1:
            return alone[0]
        loose = [Path(e.path) for e in content(self.place) if not is_archive(Path(e.name))]
        loose += [Path(e.path) for e in content(fetched)] if fetched else []
        if not (self.unpacked or fetched):
            return direct
        fitting = [root for in_one in (True, False) if (root := self._together(card, loose, in_one))]
        # Where no arrangement has the picture, the preparation says that it is absent.
        fallback = [direct] if direct else fitting
        return next(
            (r for r in fitting if has_first_picture(card, r) is not False), next(iter(fallback), None)
        )

    def _together(self, card: DatasetCard, loose: list[Path], in_one: bool) -> Path | None:
        """The folder among links to everything: archives side by side, or each in a folder of its name."""
        target = self.own / ("joined" if in_one else "named")
        parts = [(path.name, path) for path in loose]
        for part in self.unpacked:
            parts += [(e.name, Path(e.path)) for e in content(part)] if in_one else [(_stem(part), part)]
        with replaced(target) as new:
            fits = joined(parts, new, self.own.parent)
        return find_root(card, target) if fits else None


def tidy(own: Path, root: Path) -> None:
    """Remove what the workflow once made for the data set and ``root`` does not need."""
    inside = root.resolve().relative_to(own.resolve()).parts[0] if _is_below(root, own) else ""
    needed = {inside, "unpacked", "fetched"} if inside in ("joined", "named") else {inside}
    for folder in own.iterdir() if own.is_dir() else []:
        if folder.name not in needed:
            shutil.rmtree(folder)


def _is_below(root: Path, own: Path) -> bool:
    return root.resolve().is_relative_to(own.resolve()) and root.resolve() != own.resolve()


def _stem(archive: Path) -> str:
    """Name of an archive without its suffix."""
    suffix = max((s for s in SUFFIXES if archive.name.lower().endswith(s)), key=len, default="")
    return archive.name[: len(archive.name) - len(suffix)]


def has_files(place: Path) -> bool:
    """Whether a person put something there; hidden files, junk and the workflow's record are nothing."""
    return place.is_file() or bool(content(place))


def archives_at(place: Path) -> list[Path]:
    """The archive that ``place`` is, or those that lie in it."""
    if place.is_file():
        return [place] if is_archive(place) else []
    return [Path(e.path) for e in content(place) if is_archive(Path(e.name)) and e.is_file()]


def beside(card: DatasetCard, file: Path) -> Path | None:
    """The data set's folder if ``file`` is one of the files that the card names, as an .npz or a table."""
    wanted = anchors(card)
    for path in (PurePosixPath(path) for anchor in wanted for path in anchor.paths):
        above = file.absolute().parents[len(path.parts) - 1]
        if above / path == file.absolute() and all(anchor.found(above) for anchor in wanted):
            return file.parent if len(path.parts) == 1 else above
    return None


def has_first_picture(card: DatasetCard, root: Path) -> bool | None:
    """Whether the picture of a table's first row lies there; None if that cannot be told cheaply."""
    adapter = card.adapter
    if not isinstance(adapter, Csv) or adapter.splits:
        return None
    from discern.data.adapters.places import Places, relative  # their package needs numpy

    try:
        row = next(iter(CsvTable(root / adapter.table, adapter.delimiter, adapter.header)))
        path = relative(cell(row, adapter.columns.get("path", "path")) or "", row.where)
        places = Places(root)
        return any(places.find(str(PurePosixPath(folder, path))) for folder in adapter.images)
    except (OSError, StopIteration, KeyError, DiscernError):
        return None  # the preparation reads it with all its rules and explains


def known_digests(card: DatasetCard, name: str) -> list[tuple[str, str]]:
    """(algorithm, digest) of every source that publishes a file of that name."""
    return [found for source in card.source for found in _digests(source, name)]


def _digests(source: DatasetSource, name: str) -> list[tuple[str, str]]:
    if isinstance(source, HubFile | ManualFile):
        return [("sha256", d) for path, d in source.sha256.items() if PurePosixPath(path).name == name]
    if isinstance(source, UrlFile) and url_name(source) == name:
        return [(a, d) for a, d in (("sha256", source.sha256), ("md5", source.md5)) if d]
    if isinstance(source, KaggleSource) and archive_name(source) == name and source.sha256:
        return [("sha256", source.sha256)]
    return []


def url_name(source: UrlFile) -> str:
    """Name of the file behind an address."""
    return source.url.split("?")[0].rsplit("/", 1)[-1]
