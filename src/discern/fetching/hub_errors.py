"""Why the hub refused, in words: what a person must do, without ever showing a token."""

from __future__ import annotations

import os
from pathlib import Path

from discern.errors import DiscernError, problem
from discern.fetching.transfer import failed
from discern.sources import HubFile

HOW = "set HF_TOKEN to an access token of that account, or run `hf auth login`"


def endpoint() -> str:
    """Address of the hub: HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def page_of(source: HubFile) -> str:
    """The page on which access is granted."""
    kind = "datasets/" if source.repo_type == "dataset" else ""
    return source.terms or f"https://huggingface.co/{kind}{source.repo}"


def field(source: HubFile) -> str:
    """The card's field that holds the source."""
    return "source" if source.repo_type == "dataset" else "weights"


def pinned(source: HubFile) -> str:
    """How to ask for what can be pinned, in parentheses; only models can be asked for."""
    return "" if source.repo_type == "dataset" else " (see python -m discern pin MODEL)"


def explained(source: HubFile, name: str, place: Path, error: Exception) -> DiscernError:
    """The message for a person; ``place`` is where the file may be placed by hand."""
    from huggingface_hub import errors, get_token

    where = f"Hugging Face Hub: {source.repo}"
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
    token = get_token() is not None
    by_hand = f", or place the file at {place}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return problem(
            where,
            f"{name} is not here, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set",
            repair=f"unset both where there is a network{by_hand}",
        )
    if isinstance(error, errors.GatedRepoError) or (source.gated and status in (401, 403)):
        return _gated(source, name, token, by_hand)
    if isinstance(error, errors.RevisionNotFoundError):
        return problem(
            where,
            f"has no revision '{source.revision}'",
            repair=f"correct {field(source)}.revision in the card{pinned(source)}",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return problem(
            where,
            f"revision '{source.revision}' has no file '{name}'",
            repair=f"correct {field(source)}.files in the card{pinned(source)}",
        )
    if status == 401:
        said = "the token was not accepted" if token else "there is no token"
        return problem(
            where,
            f"{name} is refused (status 401): {said}, or the repository does not exist",
            repair=f"if {page_of(source)} exists, accept its terms, then {HOW}{by_hand}; "
            f"if not, correct {field(source)}.repo in the card",
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return problem(
            where,
            f"{name}: there is no such repository, or it is private",
            repair=f"correct {field(source)}.repo in the card; if it is private, {HOW}",
        )
    if status == 403:
        return problem(
            where, f"{name}: access is refused (status 403)", repair=f"run again; if it stays, {HOW}"
        )
    if status is not None:
        return problem(
            where, f"{name}: the hub answered with status {status}", repair=f"run again (it resumes){by_hand}"
        )
    return failed(f"{where}: {name} from {endpoint()}", error, place)


def _gated(source: HubFile, name: str, token: bool, by_hand: str) -> DiscernError:
    where, page = f"Hugging Face Hub: {source.repo}", page_of(source)
    if not token:
        return problem(
            where,
            f"is gated and there is no token, so {name} was not fetched",
            repair=f"accept the terms at {page}, then {HOW}{by_hand}",
        )
    return problem(
        where,
        f"is gated, and the token that is set is not valid or its account has no access to {name}",
        repair=f"accept the terms at {page} with that account and wait for the approval "
        f"(a fine-grained token also needs 'read access to public gated repositories'){by_hand}",
    )
