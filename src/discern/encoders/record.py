"""The record of fetched weights: which files, where, with which digests.

Kept apart from the fetching, so that a change of a downloader does not count as a change of features.
"""

from __future__ import annotations

from pathlib import Path

from discern.errors import problem
from discern.files import ContractError, read_json, sha256_file, write_json
from discern.fingerprint import digest


def write_record(model: str, files: list[Path], record: Path) -> None:
    """Write ``{"model", "files": {name: {"path", "sha256", "bytes"}}, "digest"}``.

    Paths are relative to the record's folder, so that the folder may be moved.
    """
    folder = record.parent
    entries = {
        str(file.relative_to(folder)): {
            "path": str(file.relative_to(folder)),
            "sha256": sha256_file(file),
            "bytes": file.stat().st_size,
        }
        for file in sorted(files)
    }
    hashes = {name: entry["sha256"] for name, entry in entries.items()}
    write_json(record, {"model": model, "files": entries, "digest": digest(hashes)})


def read_weights(record: Path | str) -> dict[str, Path]:
    """Name -> path of every fetched file; empty for models without files.

    Raises DiscernError if one has gone or has another size. The bytes were hashed when fetched.
    """
    record = Path(record)
    files = {}
    for name, entry in _content(record)["files"].items():
        path = record.parent / entry["path"]
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            seen = "is missing" if size is None else f"has {size} bytes, not {entry['bytes']}"
            raise problem(str(path), seen, repair=f"delete the record and run again: rm {record}")
        files[name] = path
    return files


def weights_digest(record: Path | str) -> str:
    """The digest over all fetched files."""
    return str(_content(Path(record))["digest"])


def _content(record: Path) -> dict:  # type: ignore[type-arg]
    content = read_json(record)
    if not isinstance(content, dict) or not {"files", "digest"} <= content.keys():
        raise ContractError(f"{record}: not a record of fetched weights")
    return content
