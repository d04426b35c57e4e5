"""The record of fetched weights: which files, where, with which digests.

Kept apart from the fetching, so that a change of a downloader does not count as a change of features.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from discern.errors import problem
from discern.files import ContractError, read_record, sha256_file, write_json
from discern.fingerprint import digest

#: Ending that ``discern convert`` adds to the name of a file whose tensors it took out.
CONVERTED = ".converted.safetensors"


def converted(file: Path) -> Path | None:
    """The safetensors that ``discern convert`` made of exactly this file, if there are any."""
    made = file.with_name(file.name + CONVERTED)
    if not made.is_file():
        return None
    with open(made, "rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    return made if header.get("__metadata__", {}).get("source_sha256") == sha256_file(file) else None


def write_record(model: str, files: list[Path], record: Path) -> None:
    """Write ``{"model", "files": {name: {"path", "sha256", "bytes"}}, "digest"}``.

    Paths are relative to the record's folder, so that the folder may be moved.
    """
    folder = record.parent
    # A rewritten record keeps what was taken out of a file by hand, unless that file has changed.
    files = [f for f in files if not f.name.endswith(CONVERTED)]
    files += [made for made in map(converted, files) if made is not None]
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
    content = read_record(record, {"files": {str: {"path": str, "bytes": int}}, "digest": str})
    for entry in content["files"].values():
        place = PurePosixPath(entry["path"])
        if place.is_absolute() or ".." in place.parts or "\0" in entry["path"]:
            raise ContractError(f"{record}: names a file elsewhere, {entry['path']!r}")
    return content
