"""What the hub's JSON API says of a repository: its commit, its files with sizes and digests.

The workflow's own environment has no client of the hub, and needs none for this.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.errors import problem
from discern.fetching.hub_errors import HOW, endpoint, field, page_of
from discern.sources import HubFile

TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Published:
    """One file of a repository."""

    name: str
    size: int  # bytes
    sha256: str  # empty for small files, which lie in git itself


def api_of(source: HubFile) -> str:
    """Address of a repository in the API."""
    kind = "datasets" if source.repo_type == "dataset" else "models"
    return f"{endpoint()}/api/{kind}/{source.repo}"


def file_of(source: HubFile, commit: str, name: str) -> str:
    """Address of one file at a commit."""
    kind = "datasets/" if source.repo_type == "dataset" else ""
    return f"{endpoint()}/{kind}{source.repo}/resolve/{commit}/{urllib.parse.quote(name)}"


def list_files(source: HubFile, commit: str) -> list[Published]:
    """Every file of a commit, by name; the hub hands them out in pages."""
    found, address = [], f"{api_of(source)}/tree/{commit}?recursive=true"
    while address:
        rows, following = ask(address, source)
        for row in rows:
            if row.get("type") == "file":
                large = row.get("lfs") or {}
                found.append(Published(row["path"], large.get("size", row["size"]), large.get("oid", "")))
        address = following
    return sorted(found, key=lambda file: file.name)


def ask(address: str, source: HubFile) -> tuple[Any, str]:
    """The JSON behind an address, and the address of the next page or ''."""
    text, following = read(address, source)
    try:
        return json.loads(text), following
    except ValueError as error:
        raise problem(
            address, "the answer is no JSON", repair="check HF_ENDPOINT and the proxy settings"
        ) from error


def read(address: str, source: HubFile) -> tuple[str, str]:
    """The text behind an address, and the address of the next page or ''.

    Raises DiscernError if the hub refuses or cannot be reached.
    """
    request = urllib.request.Request(address)  # noqa: S310 (the endpoint is https or the user's own)
    if secret := token():
        request.add_unredirected_header("Authorization", f"Bearer {secret}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            following = re.search(r'<([^>]+)>;\s*rel="next"', answer.headers.get("Link") or "")
            return answer.read().decode(), following[1] if following else ""
    except urllib.error.HTTPError as error:
        where = f"Hugging Face Hub: {source.repo}"
        if error.code in (401, 403):
            page = page_of(source)
            raise problem(
                where,
                f"access is refused (status {error.code}), or there is no such repository",
                repair=f"look at {page}; if it exists, accept its terms, then {HOW}",
            ) from error
        raise problem(
            where,
            f"the hub answers with status {error.code} for {urllib.parse.urlsplit(address).path}",
            repair=f"correct {field(source)}.repo or {field(source)}.revision in the card",
        ) from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise problem(
            endpoint(),
            f"no answer ({getattr(error, 'reason', error)})",
            repair="run this where there is a network",
        ) from error


def token() -> str:
    """The access token that is set or stored, or ''; only ever sent to the hub."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    stored = Path(os.environ.get("HF_TOKEN_PATH", home / "token"))
    return os.environ.get("HF_TOKEN", "").strip() or (stored.read_text().strip() if stored.is_file() else "")
