"""Writing and hashing files: temporary name, then rename, so that a reader never meets half a file.

Apart from ``contracts`` so that light processes (command line, preflight, the workflow's own) need
neither numpy nor pyarrow, which the workflow's environment does not have.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from discern.errors import DiscernError


class ContractError(DiscernError):
    """A file that does not keep its contract: damaged, truncated, or of another shape."""


#: Seconds after which another host's unfinished file is taken for abandoned.
ABANDONED = 3600

_numbers = itertools.count()
_swept: set[Path] = set()


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename on success, remove on any failure.

    What killed processes left unfinished in that folder goes when this process first writes there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _swept:
        _swept.add(path.parent)
        sweep(path.parent)
    # Not after the target, whose name may be as long as names can be. The suffix stays last: image
    # libraries choose the format by it.
    owner = f"{os.getpid()}@{socket.gethostname()}"
    temporary = path.with_name(f".{next(_numbers)}.{owner}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the unfinished files of dead processes; of other hosts, those that nobody touches."""
    for name in os.listdir(folder):
        found = re.fullmatch(r"\.\d+\.(\d+)@(.+)\.tmp(\..*)?", name)
        if not found:
            continue
        leftover = folder / name
        with contextlib.suppress(OSError):  # another process removes the same
            if found[2] == socket.gethostname():
                dead = not alive(int(found[1]))
            else:
                dead = time.time() - leftover.stat().st_mtime > ABANDONED
            if dead:
                leftover.unlink()


def alive(pid: int) -> bool:
    """Whether a process of this host runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write sorted, indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON or raise ContractError naming the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise ContractError(f"{path}: cannot be read as JSON ({error})") from error


def read_record(path: Path | str, shape: Any) -> Any:
    """Read JSON of a known ``shape`` or raise ContractError naming the file; see ``has_shape``."""
    content = read_json(path)
    if not has_shape(content, shape):
        raise ContractError(
            f"{path}: damaged, or not a record of this kind\n  repair: delete it and run again: rm {path}"
        )
    return content


def has_shape(value: Any, shape: Any) -> bool:
    """Whether a value of JSON is built as ``shape`` says.

    ``{name: shape}`` has these entries and perhaps others, ``{"name?": shape}`` may lack one,
    ``{str: shape}`` has any names, ``[shape]`` any number of items; a type or a union stands for itself.
    """
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(item, shape[0]) for item in value)
    if not isinstance(shape, dict):
        return isinstance(value, shape)
    if not isinstance(value, dict):
        return False
    if str in shape:
        return all(has_shape(item, shape[str]) for item in value.values())
    return all(
        has_shape(value[name], inner) if (name := key.removesuffix("?")) in value else key.endswith("?")
        for key, inner in shape.items()
    )


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file as lower-case hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
