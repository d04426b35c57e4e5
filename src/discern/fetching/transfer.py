"""Bytes from an address into a file that nobody mistakes for a whole or a right one.

A transfer that breaks goes on where it stopped, within a run and in the next. A file gets its name
after its check; one that fails the check is kept under a name that no reader takes, because it may
have cost hours and the card may be what is wrong. A file that a person placed is never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import itertools
import logging
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from discern.errors import DiscernError, problem
from discern.fetching.space import check_free, explained_if_full
from discern.files import ContractError, read_record, write_json

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without an answer
TRIES = 6  # connections for one file, as long as each brings bytes
PAUSE = 1.0  # seconds before the next

PART = ".part"  # of a file that is not whole yet
REJECTED = ".rejected"  # of a file that is not what the card says
LEDGER = ".downloaded.json"  # which files of a folder were downloaded, from where

log = logging.getLogger("discern")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold the lock of ``path`` (a hidden file beside it); other processes wait.

    Yields the lock's file descriptor: a child that inherits it keeps the lock when this process is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Digest of a file as lower-case hex; ``algorithm`` as hashlib calls it."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


# --------------------------------------------------------------------------- what is here already


def is_here(target: Path, origin: str, digest: str | None, algorithm: str = "sha256") -> bool:
    """Whether ``target`` is what the card wants, downloaded before or placed by a person.

    ``origin`` names the place it would be downloaded from. A file that was downloaded for an older
    card is set aside. Raises DiscernError for a person's file with another digest.
    """
    if not target.is_file():
        return False
    noted = _ledger(target.parent).get(target.name, {})
    seen = digest_of(target, algorithm)
    known = seen if algorithm == "sha256" or not noted else digest_of(target)
    ours = noted.get("sha256") == known
    if seen == digest or (digest is None and ours and noted["origin"] == origin):
        return True
    if ours:
        log.info("%s was downloaded for another card and is kept as %s", target, set_aside(target).name)
        return False
    if digest is None:
        log.warning(
            "warning: %s was placed by hand; the card has no digest, so it is taken unchecked", target
        )
        return True
    raise problem(
        str(target),
        f"{algorithm} is {seen}, the card says {digest}; the file is left alone and not used",
        repair=f"if the card is right, move it away (mv {target} {target}{REJECTED}) and run again",
    )


def _ledger(folder: Path) -> dict[str, dict[str, str]]:
    try:
        return dict(read_record(folder / LEDGER, {str: {"sha256": str, "origin": str}}))
    except ContractError:  # absent; or damaged, and every file then counts as a person's
        return {}


def _note(target: Path, origin: str, sha256: str) -> None:
    with locked(target.parent / LEDGER):
        entry = {target.name: {"origin": origin, "sha256": sha256}}
        write_json(target.parent / LEDGER, _ledger(target.parent) | entry)


def set_aside(path: Path, name: str | None = None) -> Path:
    """Rename ``path`` to ``<name>.rejected``, or .rejected2 ...: no other file is overwritten."""
    base = path.with_name(name or path.name)
    for number in itertools.count(1):
        aside = base.with_name(f"{base.name}{REJECTED}{number if number > 1 else ''}")
        if not aside.exists() or digest_of(aside) == digest_of(path):
            return path.replace(aside)
    raise AssertionError


def keeps(path: Path) -> bool:
    """Whether a file in a folder of fetched files is one of them, and no note, lock, part or reject."""
    return path.is_file() and not path.name.startswith(".") and not is_leftover(path)


def is_leftover(path: Path) -> bool:
    """Whether the name is that of an unfinished or refused file."""
    return path.name.endswith(PART) or REJECTED in path.name


# --------------------------------------------------------------------------- what arrives


def accept(
    part: Path, target: Path, origin: str, digest: str | None, said_by: str, algorithm: str = "sha256"
) -> None:
    """Give a whole ``part`` its name ``target`` and note its origin, if the digest is right.

    ``said_by`` names who states the digest or its beginning: the card or the hub. Otherwise the bytes
    are kept under a rejected name and DiscernError says what was seen and expected.
    """
    seen = digest_of(part, algorithm)
    if digest is not None and not seen.startswith(digest):
        aside = set_aside(part, target.name)
        raise problem(
            origin,
            f"{algorithm} is {seen}, {said_by} says {digest}; nothing was used, the bytes are in {aside}",
            repair="run again; if it repeats, the published file has changed: compare it with the card",
        )
    _note(target, origin, seen if algorithm == "sha256" else digest_of(part))
    os.replace(part, target)


def check_space(part: Path, size: int | None, name: str) -> None:
    """DiscernError if the rest of ``size`` bytes does not fit beside ``part``; makes its folder."""
    check_free(part.parent, (size or 0) - size_of(part), name)


def stream(
    url: str,
    part: Path,
    name: str,
    headers: Mapping[str, str] | None = None,
    size: int | None = None,
) -> None:
    """Append the rest of ``url`` to ``part``, with a progress bar called ``name`` on stderr.

    ``size``: bytes of the whole file, where known. Connections that break after some bytes are taken
    up again. Raises DiscernError for other schemes than http, https and file, or if the disk is full,
    OSError or http.client.HTTPException if the transfer fails.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise problem(url, "not an address that can be downloaded", allowed=["https", "http", "file"])
    for left in reversed(range(TRIES)):
        before = size_of(part)
        try:
            _append(url, part, name, headers or {})
            if size is not None and size_of(part) < size:
                raise OSError(f"it ended after {size_of(part)} of {size} bytes")
            return
        except (http.client.HTTPException, OSError) as error:
            if isinstance(error, urllib.error.HTTPError) or not left or size_of(part) <= before:
                raise
            log.info("%s: %s; going on after %d bytes", name, error, size_of(part))
        time.sleep(PAUSE)


def size_of(part: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return part.stat().st_size if part.is_file() else 0


def _append(url: str, part: Path, name: str, headers: Mapping[str, str]) -> None:
    """One connection; starts over where the server knows no ranges."""
    from tqdm import tqdm  # the workflow's own process asks what is here and has no progress bars

    have = size_of(part)
    request = urllib.request.Request(url)  # noqa: S310 (the scheme was checked)
    for key, value in headers.items():
        request.add_unredirected_header(key, value)  # a token must not follow to another host
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        # 416: nothing lies behind what is already here. Whole, or the rest of another file?
        if error.code != 416 or error.headers.get("Content-Range") != f"bytes */{have}":
            if error.code == 416:
                part.unlink()
            raise
        return
    with answer:
        resumed = getattr(answer, "status", None) == 206
        length, begun = answer.headers.get("Content-Length"), have if resumed else 0
        total = int(length) + begun if length else None
        with (
            explained_if_full(part.parent, total, name),
            open(part, "ab" if resumed else "wb") as sink,
            tqdm(
                initial=begun,
                total=total,
                desc=name,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
                mininterval=0.5 if sys.stderr.isatty() else 10,
            ) as bar,
        ):
            while chunk := answer.read(CHUNK):
                sink.write(chunk)
                bar.update(len(chunk))
    # http.client ends a cut connection quietly when it is read in pieces.
    if total is not None and size_of(part) < total:
        raise OSError(f"connection closed after {size_of(part)} of {total} bytes")


def failed(where: str, error: Exception, place: Path) -> DiscernError:
    """The message of a transfer that broke: it resumes, or a person places the file."""
    code, by_hand = getattr(error, "code", None), f"or place the file at {place}"
    if code in (401, 403):
        what = f"access is refused (status {code})"
        repair = f"accept the publisher's terms in a browser, download it there, {by_hand[3:]}"
    elif code in (404, 410):
        what = f"there is no such file (status {code})"
        repair = f"correct the address in the card, {by_hand}"
    else:
        what = f"download failed ({getattr(error, 'reason', None) or error})"
        repair = f"check the network and run again (it resumes), {by_hand}"
    return problem(where, what, repair=repair)
