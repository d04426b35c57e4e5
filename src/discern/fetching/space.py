"""Room on a disk: asked before bytes are written, and said in words when it ends."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from discern.errors import DiscernError, problem
from discern.sources import size_text

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
REPAIR = "free space, or make the folder a link to a larger disk"


def is_full(error: BaseException) -> bool:
    """Whether a write failed for want of room: disk, quota, or the largest file allowed."""
    return isinstance(error, OSError) and error.errno in FULL


def check_free(folder: Path, size: int, name: str) -> None:
    """Make ``folder``; DiscernError if ``size`` bytes do not fit into it."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise problem(
            str(folder), f"{name} needs {size_text(size)}, {size_text(free)} are free", repair=REPAIR
        )


def full(folder: Path, size: int | None, name: str, error: BaseException) -> DiscernError:
    """The message of a write that failed for want of room; ``size``: bytes that are needed, if known."""
    need = f"needs {size_text(size)}" if size else "needs more"
    return problem(str(folder), f"no room left: {name} {need} ({error})", repair=f"{REPAIR}, then run again")


@contextlib.contextmanager
def explained_if_full(folder: Path, size: int | None, name: str) -> Iterator[None]:
    """Turn an OSError for want of room into ``full``'s message."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise full(folder, size, name, error) from error
