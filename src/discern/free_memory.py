"""Memory that this process may still take, and what is said when it is not enough.

The system's free memory is not the bound inside a container or a cluster's job: groups of processes have
limits of their own, each within those above it, and ``ulimit`` sets others.
"""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

from discern.errors import DiscernError, problem

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")

GIB = 2**30
#: What a user can do about it, whatever the work.
MORE_MEMORY = (
    "give the job more memory (on a cluster `--set-resources RULE:mem_mb=N`), or run fewer jobs at once "
    "(`--cores`, `--resources mem_mb=N`)"
)
#: Of libraries whose exceptions have no class that says it: PyTorch, oneDNN, ONNX Runtime, dlopen, Arrow.
TEXTS = (
    "memory", "alloc", "could not create a primitive", "could not execute a primitive",
    "could not create a descriptor", "failed to map segment", "failed to launch worker thread",
)  # fmt: skip


def available() -> int | None:
    """Bytes that this process may still take: by the system, its groups and its limits; None if unknown."""
    known = [field(PROC / "meminfo", "MemAvailable"), *_of_groups(), *_of_limits()]
    found = [n for n in known if n is not None]
    return max(0, min(found)) if found else None


def field(file: Path, name: str) -> int | None:
    """A field of a table in /proc in bytes, None where there is no such thing."""
    try:
        lines = file.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, ValueError, StopIteration):
        return None


def _of_groups() -> Iterator[int]:
    """Of every group that this process is in, and every group above: its limit without what is taken."""
    for folder, limit, used, cache in _groups():
        try:
            # v1 writes a huge number for no limit, v2 the word max.
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
        except (OSError, ValueError):
            continue
        yield left + _dropped_at_need(folder / "memory.stat", cache)


def _groups() -> Iterator[tuple[Path, str, str, str]]:
    """Folder of each group, names of limit and use in it, and the field of file pages in its statistics."""
    second = ("memory.max", "memory.current", "inactive_file")
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots, names = [GROUPS, GROUPS / "unified"], second
        elif "memory" in controllers.split(","):
            roots, names = [GROUPS / "memory"], first
        else:
            continue
        # Inside a container the path may be that of the host, of which only the end, or nothing, is here.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for root in roots:
            for depth in range(len(parts), -1, -1):
                yield root.joinpath(*parts[:depth]), *names


def _dropped_at_need(statistics: Path, name: str) -> int:
    """Bytes of pages of files that count as taken and that the kernel gives up before anything fails."""
    try:
        lines = statistics.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[0] == name)
    except (OSError, ValueError, IndexError, StopIteration):
        return 0


def _of_limits() -> Iterator[int]:
    """Of ``ulimit -v`` and ``ulimit -d``, without what is taken."""
    for kind, taken in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit, used = resource.getrlimit(kind)[0], field(PROC / "self/status", taken)
        if limit != resource.RLIM_INFINITY and used is not None:
            yield limit - used


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of any library says that memory ran out."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).lower()
    # "illegal memory access" is a broken kernel, which less work does not mend.
    return any(part in text for part in TEXTS) and "illegal" not in text


def shortage(where: str, what: str, need: float, free: int | None) -> DiscernError:
    """The error of work that takes ``need`` bytes, with that figure and with what was free before it."""
    left = "it is not known how much was free" if free is None else f"{gib(free)} free"
    said = f"not enough memory for {what}: at least {gib(need)} needed, {left}"
    return problem(where, said, repair=MORE_MEMORY)


def require(where: str, what: str, need: float) -> None:
    """DiscernError with the figures unless ``need`` bytes are free."""
    free = available()
    if free is not None and free < need:
        raise shortage(where, what, need, free)


def gib(amount: float) -> str:
    """An amount in bytes for people."""
    return f"{amount / GIB:.2f} GiB"


def affordable(need_of_one: float, shared: float, wanted: int) -> int:
    """How many of ``wanted`` workers fit: each takes ``need_of_one`` bytes, all together ``shared``."""
    free = available()
    if free is None:
        return wanted
    return max(0, min(wanted, int((free - shared) // max(need_of_one, 1))))


@contextlib.contextmanager
def figured(where: str, what: str, need: float) -> Iterator[None]:
    """Turn memory that runs out inside, whichever library says so, into ``shortage``.

    ``need``: what it certainly takes; where that was free, it has turned out to take more than was.
    """
    free = available()
    try:
        yield
    except DiscernError:
        raise
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise shortage(where, what, max(need, free or 0), free) from error
