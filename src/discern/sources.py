"""Where the files of a card come from: one strict record for each kind of place."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from discern.validation import Strict

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


#: Of a Python package and its version, as pip takes them: nothing that pip would read as an option.
Package = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")]


def _without_password(url: str) -> str:
    """An address that may be printed: messages, records and reports name it."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise ValueError(f"not an address ({error})") from error
    if "@" in parts.netloc or not url.isprintable() or " " in url:
        raise ValueError("must be an address without user, password, blanks and control characters")
    return url


Address = Annotated[str, AfterValidator(_without_password)]


class PackageFile(Strict):
    """Members of a package from the Python package index, used as a data archive, never imported."""

    kind: Literal["package"]
    package: Package
    version: Version
    archive: Literal["wheel", "sdist"] = "wheel"
    sha256: Sha256
    members: list[str] = Field(min_length=1)  # paths inside the archive; a trailing / takes a folder


class HubFile(Strict):
    """Files of a model or data-set repository on the Hugging Face Hub at a pinned revision."""

    kind: Literal["hub"]
    repo: str
    repo_type: Literal["model", "dataset"] = "model"
    revision: str | None = None  # null: not yet known, refused at download time
    files: list[str] = []  # published names, or patterns such as *.py
    optional: list[str] = []  # taken where they exist: a configuration that the card is compared with
    index: str = ""  # index of a sharded checkpoint; of its shards only those that are needed are fetched
    sha256: dict[str, Sha256] = {}
    bytes: int | None = Field(default=None, gt=0)  # size of what is fetched, where known
    gated: bool = False
    terms: str | None = None  # page on which access is granted
    companions: dict[Name, HubFile] = {}  # folder -> repository that the authors' loader asks for as well


class UrlFile(Strict):
    """One file behind a direct address."""

    kind: Literal["url"]
    url: Address
    sha256: Sha256 | None = None
    md5: Md5 | None = None
    bytes: int | None = Field(default=None, gt=0)  # where known


class GitSource(Strict):
    """Folders of a git repository at a pinned commit."""

    kind: Literal["git"]
    url: Address
    commit: Commit
    paths: list[str] = []  # folders or files that are taken; empty: everything
    bytes: int | None = Field(default=None, gt=0)  # of what is taken, where known


class KaggleSource(Strict):
    """A data set on Kaggle, through its official client with the user's own credentials."""

    kind: Literal["kaggle"]
    dataset: str  # owner/name
    version: int | None = Field(default=None, gt=0)  # null: the latest
    sha256: Sha256 | None = None  # of the archive
    bytes: int | None = Field(default=None, gt=0)  # where known


class ManualFile(Strict):
    """Something only a person can fetch: where to get it, what to place."""

    kind: Literal["manual"]
    page: str = ""  # where to get it; empty: your own
    place: str  # file or folder names expected in the target folder, separated by commas
    sha256: dict[str, Sha256] = {}
    bytes: int | None = Field(default=None, gt=0)  # where known
    note: str = ""


class Nothing(Strict):
    """No file is needed: controls and random weights."""

    kind: Literal["none"]


class Library(Strict):
    """Weights that a library downloads under a fixed name (torchvision, open_clip tags)."""

    kind: Literal["library"]
    library: str
    tag: str
    sha256: Sha256 | None = None
    bytes: int | None = Field(default=None, gt=0)  # where known


class RecipeSource(Strict):
    """Images cut from package files by a recipe in ``discern.data.recipes``."""

    kind: Literal["recipe"]
    recipe: str
    options: dict[str, Any] = {}
    seed: int = 0
    packages: list[PackageFile] = []


WeightsSource = Annotated[
    PackageFile | HubFile | UrlFile | ManualFile | Library | Nothing, Field(discriminator="kind")
]
DatasetSource = Annotated[
    RecipeSource | HubFile | UrlFile | GitSource | KaggleSource | ManualFile, Field(discriminator="kind")
]


def size_text(size: int | None) -> str:
    """Bytes for people: ``784 MB``, ``15.1 GB``; ``unknown`` for None."""
    if size is None:
        return "unknown"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.{1 if unit == 'GB' else 0}f} {unit}"
    return f"{size} bytes"
