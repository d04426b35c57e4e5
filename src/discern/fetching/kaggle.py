"""Data sets on Kaggle: its official client finds the archive, with the user's own credentials.

The bytes are fetched here: the client unpacks an archive without the checks of ``archives`` and deletes
it before anyone could compare it with the card.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.errors import DiscernError, problem
from discern.fetching.transfer import (
    PART,
    accept,
    check_space,
    failed,
    is_here,
    locked,
    stream,
)
from discern.sources import KaggleSource

HOW = (
    "make a token at https://www.kaggle.com/settings/api and set KAGGLE_API_TOKEN, or store it in "
    "~/.kaggle/access_token (or the older kaggle.json in ~/.kaggle)"
)


@dataclass(frozen=True)
class _Found:
    """Where the archive lies now: a signed address, which is never shown."""

    address: str
    headers: dict[str, str]
    size: int | None
    etag: str
    md5: str | None


def page_of(source: KaggleSource) -> str:
    """The page of a data set, where its terms are accepted."""
    return f"https://www.kaggle.com/datasets/{source.dataset}"


def has_credentials() -> bool:
    """Whether credentials for Kaggle are set or stored; their values are not read."""
    if os.environ.get("KAGGLE_API_TOKEN"):
        return True
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return True
    home = Path("~/.kaggle").expanduser()
    older = Path(os.environ.get("KAGGLE_CONFIG_DIR") or home)
    stored = (home / "access_token", home / "access_token.txt", older / "kaggle.json")
    return any(file.is_file() for file in stored)


def no_credentials(source: KaggleSource, by_hand: str = "") -> DiscernError:
    """The message that asks for credentials."""
    return problem(
        f"Kaggle: {source.dataset}",
        "needs an account, and there is no token",
        repair=f"look at the terms on {page_of(source)}, then {HOW}{by_hand}",
    )


def fetch_kaggle(source: KaggleSource, folder: Path) -> Path:
    """Download the archive of a data set into ``folder``, resuming a partial one; returns its path.

    Raises DiscernError without credentials, where access is not granted, if the network fails or the
    archive has another digest than the card, or than Kaggle's store, says.
    """
    target = Path(folder) / archive_name(source)
    origin = f"Kaggle: {source.dataset}, version {source.version or 'latest'}"
    with locked(target):
        if is_here(target, origin, source.sha256):
            return target
        if not has_credentials():
            raise no_credentials(source, f"; or place the archive at {target}")
        found = _located(source, target)
        # The part belongs to these very bytes: another version must not continue it.
        part = target.with_name(f"{target.name}.{found.etag}{PART}")
        check_space(part, found.size or source.bytes, target.name)
        try:
            stream(found.address, part, target.name, found.headers, found.size)
        except (http.client.HTTPException, OSError) as error:
            raise _explained(source, target, error) from error
        if source.sha256 is None and found.md5 is not None:
            accept(part, target, origin, found.md5, "Kaggle's store", "md5")
        else:
            accept(part, target, origin, source.sha256, "the card")
    return target


def archive_name(source: KaggleSource) -> str:
    """Name of the archive here."""
    return f"{source.dataset.rpartition('/')[2]}.zip"


def _located(source: KaggleSource, target: Path) -> _Found:
    """Ask Kaggle for the archive's address."""
    import requests
    from kagglehub.clients import build_kaggle_client
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, _, request.dataset_slug = source.dataset.partition("/")
    if source.version is not None:
        request.dataset_version_number = source.version
    try:
        with build_kaggle_client() as client:
            answer = client.datasets.dataset_api_client.download_dataset(request)
            with answer:  # only its head is read
                return _facts(answer)
    except (requests.RequestException, OSError, ValueError) as error:
        raise _explained(source, target, error) from error


def _facts(answer: Any) -> _Found:
    headers = {}
    if secret := answer.request.headers.get("Authorization"):  # the client drops it for another host
        headers["Authorization"] = secret
    size = answer.headers.get("Content-Length")
    etag = "".join(c for c in answer.headers.get("ETag") or size or "" if c.isalnum())[:16]
    return _Found(answer.url, headers, int(size) if size else None, etag, _md5(answer.headers))


def _md5(headers: Any) -> str | None:
    """MD5 as hex from the store's header ``crc32c=...,md5=...`` in base64."""
    for part in (headers.get("x-goog-hash") or "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "md5":
            try:
                return base64.b64decode(value, validate=True).hex()
            except binascii.Error:
                return None
    return None


def _explained(source: KaggleSource, target: Path, error: Exception) -> DiscernError:
    """The message for a person; what the client says may hold addresses and is not repeated."""
    where, page = f"Kaggle: {source.dataset}", page_of(source)
    code = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
    by_hand = f"; or download it from {page} and place the archive at {target}"
    if code == 401:
        return problem(where, "the token was not accepted (status 401)", repair=f"{HOW}{by_hand}")
    if code == 403:
        return problem(
            where,
            "access is refused (status 403): its terms were not accepted with this account",
            repair=f"accept them at {page}{by_hand}",
        )
    if code == 404:
        version = f" version {source.version}" if source.version else ""
        return problem(
            where,
            f"there is no such data set{version} (status 404), or it is private",
            repair=f"look at {page}; correct source.dataset or source.version in the card",
        )
    if code is not None:
        return problem(
            where, f"Kaggle answered with status {code}", repair=f"run again (it resumes){by_hand}"
        )
    if isinstance(error, ValueError):
        return problem(where, "the stored credentials cannot be read", repair=f"{HOW}{by_hand}")
    return failed(where, OSError(type(error).__name__), target)
