"""Finds or brings the files of one data set and records which folder they lie in.

A data set is cut from package files by a recipe, downloaded, or placed by hand, as folders or as
archives; the record looks the same for all, so that the next stage does not care. What the workflow
makes lies in a hidden folder beside its record: a person's files and folders are only read. Nothing
heavy is imported before it is needed: the preview of a study asks ``missing`` from a process without
numpy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from discern.data.originals.explain import absent, where_to_get, wrong_layout
from discern.data.originals.layout import find_root
from discern.data.originals.placement import Placed, archives_at, beside, has_files, tidy
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError, problem
from discern.fetching.git import has_git
from discern.fetching.hub_errors import page_of
from discern.fetching.kaggle import has_credentials, no_credentials
from discern.fetching.space import explained_if_full
from discern.files import ContractError, read_record, sha256_file, write_json
from discern.sources import DatasetSource, GitSource, HubFile, KaggleSource, ManualFile, RecipeSource

#: Folder beside the record for what is downloaded, unpacked and brought together.
OWN = ".files"


def fetch_dataset(card: DatasetCard, place: Path, downloads: Path, record: Path) -> None:
    """Find the data set at ``place``, or fetch it, and write ``record``.

    ``place``: a folder or an archive of the user; where nothing is there the card's sources are
    downloaded, with ``downloads`` as the cache. The record is JSON: dataset, root (the folder that the
    adapter reads), source (a list), files (name -> SHA-256). Raises DiscernError with the repair if the
    files cannot be had, are not laid out as the card says, or do not fit on the disk.
    """
    place, record = Path(place), Path(record)
    own = record.parent / OWN
    with explained_if_full(record.parent, None, f"data set '{card.name}'"):
        if _is_used(card, place, record):
            root, files = _from_place(card, place, own, Path(downloads))
            source: list[Any] = [{"kind": "placed", "place": str(place)}]
        elif any(isinstance(one, ManualFile) for one in card.source):
            raise absent(card, place)
        else:
            root, files = _from_sources(card, place, own, Path(downloads))
            source = [one.model_dump(mode="json") for one in card.source]
        tidy(own, root)
        content = {
            "dataset": card.name,
            "root": str(root),
            "source": source,
            "files": files | _tables(card, root),
        }
        write_json(record, content)


def missing(card: DatasetCard, place: Path, record: Path | None = None) -> str | None:
    """What a person must do before this data set can be fetched, or None if nothing.

    Nothing is unpacked or asked over the network: an archive that is there counts as there.
    ``record``: of an earlier run; what was downloaded for it needs no more rights.
    """
    try:
        return _missing(card, Path(place), record)
    except DiscernError as error:
        return str(error)


def _missing(card: DatasetCard, place: Path, record: Path | None) -> str | None:
    if _is_used(card, place, record):
        return _unfit(card, place)
    if any(isinstance(source, ManualFile) for source in card.source):
        return str(absent(card, place))
    if record is not None and _was_fetched(card, record):
        return None
    needs = (_need(card, source, place) for source in card.source)
    return next((str(need) for need in needs if need), None)


def hub_token() -> bool:
    """Whether an access token of the Hugging Face Hub is set or stored; its value is not read."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return bool(os.environ.get("HF_TOKEN")) or (home / "token").is_file()


def _is_used(card: DatasetCard, place: Path, record: Path | None) -> bool:
    """Whether files at the place are taken instead of what the card's sources give."""
    made = all(isinstance(source, RecipeSource) for source in card.source)
    if made and (record is None or place.resolve() == record.parent.resolve()):
        return False  # nobody places what is made here
    return has_files(place)


def _from_place(card: DatasetCard, place: Path, own: Path, downloads: Path) -> tuple[Path, dict[str, str]]:
    placed = Placed(place, own)
    root, files = placed.root(card), {}
    mixed = {isinstance(source, ManualFile) for source in card.source} == {True, False}
    if root is None and mixed:  # the person's part, and the rest from the other sources
        files = _gather(card, place, own, downloads)
        root = placed.root(card, own / "fetched")
    if root is None:
        raise wrong_layout(card, place, tuple(placed.unpacked))
    return root, files | placed.files


def _from_sources(card: DatasetCard, place: Path, own: Path, downloads: Path) -> tuple[Path, dict[str, str]]:
    files = _gather(card, place, own, downloads)
    if (root := find_root(card, own / "fetched")) is None:
        raise wrong_layout(card, own / "fetched")
    return root, files


def _gather(card: DatasetCard, place: Path, own: Path, downloads: Path) -> dict[str, str]:
    from discern.data.originals.gather import gather

    return gather(card, own / "fetched", downloads, where_to_get(card, place))


def _unfit(card: DatasetCard, place: Path) -> str | None:
    """Why the files at a place cannot be the data set, as far as that shows without unpacking."""
    if archives_at(place) or len({isinstance(s, ManualFile) for s in card.source}) > 1:
        return None
    root = beside(card, place) if place.is_file() else find_root(card, place)
    return None if root else str(wrong_layout(card, place))


def _need(card: DatasetCard, source: DatasetSource, place: Path) -> DiscernError | None:
    """What a source that is downloaded asks of a person."""
    by_hand = f"put the files into {place}{os.sep}"
    if isinstance(source, KaggleSource) and not has_credentials():
        return DiscernError(f"data set '{card.name}': {no_credentials(source, f', or {by_hand}')}")
    if isinstance(source, GitSource) and not has_git():
        return problem(
            f"data set '{card.name}'", "needs the program git", repair=f"install git, or {by_hand}"
        )
    if not isinstance(source, HubFile):
        return None
    where = f"data set '{card.name}': Hugging Face Hub: {source.repo}"
    if source.revision is None:
        return problem(where, "the card pins no revision", repair=f"set `revision` in the card, or {by_hand}")
    if source.gated and not hub_token():
        return problem(
            where,
            "access must be granted first",
            repair=f"accept the terms at {page_of(source)} and set HF_TOKEN, or {by_hand}",
        )
    return None


def _was_fetched(card: DatasetCard, record: Path) -> bool:
    """Whether an earlier run downloaded what the card's sources give today."""
    try:
        known = read_record(record, {"root": str, "source": list})
    except ContractError:
        return False
    today = [source.model_dump(mode="json") for source in card.source]
    return known["source"] == today and Path(known["root"]).is_dir()


def _tables(card: DatasetCard, root: Path) -> dict[str, str]:
    """SHA-256 of the one file that the adapter reads first, where it reads one."""
    adapter = card.adapter
    name = getattr(adapter, "table", None) or getattr(adapter, "file", None)
    return {name: sha256_file(root / name)} if name and (root / name).is_file() else {}
