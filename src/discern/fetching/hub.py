"""Files of the Hugging Face Hub at a pinned revision: only those that a card needs.

The hub's own client finds each file, its digest and the rights to it. The bytes are fetched here:
the client throws an interrupted transfer away and deletes a file that was there before.
"""

from __future__ import annotations

import fnmatch
import http.client
import json
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from discern.errors import DiscernError, problem
from discern.fetching.hub_api import list_files
from discern.fetching.hub_errors import explained, field, pinned
from discern.fetching.transfer import (
    PART,
    accept,
    check_space,
    is_here,
    keeps,
    locked,
    log,
    set_aside,
    size_of,
    stream,
)
from discern.sources import HubFile

COMMIT, SHA256 = 40, 64  # digits


def fetch_hub(source: HubFile, target: Path, prefixes: Sequence[str] = ("",)) -> list[Path]:
    """Download the card's files at the pinned revision into the folder ``target``.

    ``prefixes``: of a sharded checkpoint (``source.index``) only shards with tensors whose name begins
    with one are fetched. Files that a person placed are taken if their digest is right. Raises
    DiscernError if the revision is unknown, access is not granted, the network fails, or a digest
    differs.
    """
    target = Path(target)
    if not source.files and not source.index:
        raise problem(_where(source), "the card names no files", repair="list them under `files` in the card")
    names = list(source.files)
    if source.index:
        names.insert(0, source.index)
        index = _fetch(source, source.index, target)
        names += needed_shards(index, source.index, prefixes)
    paths = [_fetch(source, name, target) for name in dict.fromkeys(_expanded(source, names, target))]
    return [*paths, *_optional(source, target)]


def _optional(source: HubFile, folder: Path) -> list[Path]:
    """The files of ``source.optional`` that can be had; the others are named in the log."""
    found = []
    for name in source.optional:
        try:
            found.append(_fetch(source, name, folder))
        except DiscernError as error:
            reason = str(error).splitlines()[0]
            log.warning("warning: without %s the card is not compared with it (%s)", name, reason)
    return found


def _expanded(source: HubFile, names: list[str], folder: Path) -> list[str]:
    """``names`` with patterns replaced by the published names that fit them.

    Without a network the files that a person placed stand for what the hub would list.
    """
    if not any(map(is_pattern, names)):
        return names
    try:
        there = [file.name for file in list_files(source, source.revision or "main")]
    except DiscernError:
        there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if keeps(p))
        if not all(fnmatch.filter(there, name) for name in names):
            raise
        log.warning("warning: %s: the hub does not answer; the files placed here are taken", source.repo)
    found = []
    for name in names:
        fitting = fnmatch.filter(there, name) if is_pattern(name) else [name]
        if not fitting:
            raise problem(
                _where(source), f"no file fits '{name}'", repair=f"correct {field(source)}.files in the card"
            )
        found += fitting
    return found


def is_pattern(name: str) -> bool:
    """Whether an entry of ``files`` stands for several names."""
    return any(character in name for character in "*?[")


def needed_shards(index: Path, name: str, prefixes: Sequence[str]) -> list[str]:
    """``shards_of`` the file ``index``, whose published name is ``name``."""
    try:
        return shards_of(index.read_text(encoding="utf-8"), name, prefixes)
    except (OSError, UnicodeDecodeError) as error:
        raise problem(str(index), f"cannot be read as an index ({error})") from error


def shards_of(content: str, name: str, prefixes: Sequence[str]) -> list[str]:
    """Published names of the shards that hold a tensor beginning with one of ``prefixes``.

    ``content`` is the text of the index, ``name`` its published name. Raises DiscernError if it is no
    index of a sharded checkpoint, or if no tensor fits.
    """
    try:
        shards = {str(key): str(shard) for key, shard in json.loads(content)["weight_map"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise problem(name, f"is not the index of a sharded checkpoint ({error!r})") from error
    wanted = sorted({shard for key, shard in shards.items() if key.startswith(tuple(prefixes))})
    if not wanted:
        some = ", ".join(sorted(shards)[:5])
        raise problem(
            name,
            f"no tensor begins with {' or '.join(prefixes)}; the {len(shards)} names are {some} ...",
            repair="correct loader.prefix in the model card",
        )
    return [str(PurePosixPath(name).parent / shard) for shard in wanted]


def _where(source: HubFile) -> str:
    return f"Hugging Face Hub: {source.repo}"


def _fetch(source: HubFile, name: str, folder: Path) -> Path:
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise problem(_where(source), f"'{name}' would leave the target folder")
    digest = source.sha256.get(name)
    origin = f"{source.repo}@{source.revision}: {name}"
    with locked(path):
        if not is_here(path, origin, digest):
            _download(source, name, path, origin)
    return path


def _download(source: HubFile, name: str, path: Path, origin: str) -> None:
    if source.revision is None:
        raise problem(
            _where(source),
            "the card pins no revision, so what would be downloaded is not known",
            repair=f"set {field(source)}.revision in the card{pinned(source)}; or place {name} at {path}",
        )
    if len(source.revision) != COMMIT:
        log.warning("warning: %s: revision '%s' may move; a commit does not", source.repo, source.revision)
    found, headers = _located(source, name, path)
    # The part belongs to these very bytes: a card with another revision must not continue it.
    part = path.with_name(f"{path.name}.{_plain(found.etag)}{PART}")
    check_space(part, found.size, name)
    part.touch()
    try:
        if found.size is None or size_of(part) < found.size:
            stream(found.location, part, name, headers, found.size)
    except (http.client.HTTPException, OSError) as error:
        raise explained(source, name, path, error) from error
    if found.size is not None and (size := size_of(part)) > found.size:
        aside = set_aside(part, path.name)
        raise problem(
            origin, f"has {size} bytes, the hub says {found.size}; nothing was used, the bytes are in {aside}"
        )
    digest, said_by = source.sha256.get(name), "the card"
    if digest is None and len(found.etag or "") == SHA256:
        digest, said_by = found.etag, "the hub"
    accept(part, path, origin, digest, said_by)


def _located(source: HubFile, name: str, path: Path) -> tuple[Any, dict[str, str]]:
    """What the hub knows of a file (location, etag, size), and the headers for its location."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import build_hf_headers

    # The client reads HF_ENDPOINT once, at its import.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    url = hf_hub_url(
        source.repo, name, repo_type=source.repo_type, revision=source.revision, endpoint=endpoint
    )
    try:
        found = get_hf_file_metadata(url, endpoint=endpoint)
    except (HTTPError, OSError) as error:
        raise explained(source, name, path, error) from error
    headers = build_hf_headers()
    hosts = {urllib.parse.urlsplit(address).netloc for address in (url, found.location)}
    if len(hosts) > 1:  # a store behind the hub: its address is signed and needs no token
        headers.pop("authorization", None)
    return found, headers


def _plain(etag: str | None) -> str:
    return "".join(c for c in etag or "" if c.isalnum())[:16]
