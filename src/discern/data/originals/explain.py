"""Why a folder is not the data set's: what was looked for, what was found, where to get it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path, PurePosixPath

from discern.data.originals.layout import Anchor, anchors, content, folders_below, spelt
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError, did_you_mean, problem
from discern.fetching import kaggle
from discern.fetching.archives import is_archive, is_foreign
from discern.fetching.hub_errors import page_of
from discern.sources import DatasetSource, GitSource, HubFile, KaggleSource, ManualFile, UrlFile

SHOWN = 12  # entries of a folder
INSIDE = 3  # names shown of a folder within it
MANY = 10_000  # entries that are counted


def wrong_layout(card: DatasetCard, place: Path, also: tuple[Path, ...] = ()) -> DiscernError:
    """The message for files that are not laid out as the card says; ``also``: their unpacked archives."""
    wanted = anchors(card)
    looked = ", ".join(map(str, wanted)) or "files"
    if not (os.path.lexists(place) and (place.is_file() or content(place))):
        return absent(card, place)
    lines = [f"{place} has another layout than the card's: looked for {looked}"]
    folders = [folder for start in (place, *also) for folder in folders_below(start)]
    if wanted and folders:
        lines += _nearest(wanted, folders)
    for start in (place, *also):
        lines.append(f"found in {start}: {_listing(start)}")
    if any(is_foreign(Path(entry.name)) for entry in content(place)):
        lines.append("archives of this kind are not opened here: unpack them by hand")
    lines.append("looked in the folder itself and up to three levels below it")
    return problem(f"data set '{card.name}'", "\n  ".join(lines), repair=where_to_get(card, place))


def _nearest(wanted: list[Anchor], folders: list[Path]) -> list[str]:
    """What the folder lacks that has most of it, the shallowest of several; nothing if none has any."""
    best = max(folders, key=lambda folder: sum(_likeness(anchor, folder) for anchor in wanted))
    lacking = [anchor for anchor in wanted if not anchor.found(best)]
    told = [f"{anchor}{_nearly(best, anchor)}" for anchor in lacking]
    if told == [str(anchor) for anchor in wanted]:
        return []
    return [
        f"nearest: {best} has {len(wanted) - len(lacking)} of {len(wanted)}",
        f"missing: {', '.join(told)}",
    ]


def _likeness(anchor: Anchor, folder: Path) -> int:
    """2 for an anchor that is there, 1 for one that is spelt otherwise."""
    if anchor.found(folder):
        return 2
    return int(anchor.kind != "pattern" and any(spelt(folder, path) for path in anchor.paths))


def absent(card: DatasetCard, place: Path) -> DiscernError:
    """The message for a data set of which nothing is at ``place``."""
    state = "is empty" if place.is_dir() else "is absent"
    manual = [source.place for source in card.source if isinstance(source, ManualFile)]
    looked = "; ".join(manual) or ", ".join(map(str, anchors(card))) or "files"
    what = f"{place} {state}; looked for: {looked}"
    return problem(f"data set '{card.name}'", what, repair=where_to_get(card, place))


def where_to_get(card: DatasetCard, place: Path) -> str:
    """Where each part of a data set is to be had, and where to put it."""
    parts = [text for source in card.source if (text := _source(source))]
    text = f"get it from {' and '.join(parts)}" if parts else "get it"
    if card.terms and card.terms not in text:
        text += f" (terms: {card.terms})"
    return f"{text} and put it into {place}{os.sep}, as published; archives need not be unpacked"


def _source(source: DatasetSource) -> str:
    if isinstance(source, ManualFile):
        note = f" ({source.note})" if source.note else ""
        return f"{source.page or 'where you have it'}{note}"
    if isinstance(source, HubFile):
        return page_of(source)
    if isinstance(source, KaggleSource):
        return kaggle.page_of(source)
    if isinstance(source, GitSource | UrlFile):
        return source.url
    return ""


def _nearly(root: Path, anchor: Anchor) -> str:
    """A remark on what is there instead, if it differs in case or is much alike."""
    if anchor.kind == "pattern":
        return ""
    for path in anchor.paths:
        if found := spelt(root, path):
            return f" (found '{found}', which differs in case)"
    for path in anchor.paths:
        parts = PurePosixPath(path).parts
        depth = next(i for i in range(len(parts)) if not root.joinpath(*parts[: i + 1]).exists())
        folder = root.joinpath(*parts[:depth])
        if folder.is_dir() and (hint := did_you_mean(parts[depth], os.listdir(folder)[:MANY])):
            return f" ({hint.removeprefix('; ')})"
    return ""


def _listing(place: Path) -> str:
    """What a person sees there: names, for folders with a count and the first names in them."""
    if place.is_file():
        return f"{place.name} (a file)"
    entries = sorted(content(place), key=lambda entry: not entry.is_dir())  # folders first
    shown = [_entry(entry) for entry in entries[:SHOWN]]
    if len(entries) > SHOWN:
        shown.append(f"and {len(entries) - SHOWN} more")
    return ", ".join(shown) or "nothing"


def _entry(entry: os.DirEntry[str]) -> str:
    if not entry.is_dir():
        return f"{entry.name}{' (an archive)' if is_archive(Path(entry.name)) else ''}"
    try:
        with os.scandir(entry.path) as below:
            names = sorted(f"{e.name}/" if e.is_dir() else e.name for e in itertools.islice(below, MANY))
    except OSError as error:
        return f"{entry.name}/ ({error.strerror})"
    if not names:
        return f"{entry.name}/ (empty)"
    count = f"{MANY} or more entries" if len(names) == MANY else f"{len(names)} entries"
    more = ", ..." if len(names) > INSIDE else ""
    return f"{entry.name}/ ({count}: {', '.join(names[:INSIDE])}{more})"
