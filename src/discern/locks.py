"""One run in a folder at a time, and no lock that outlives its run.

Snakemake's own lock is a file without an owner: after a SIGKILL every later run is refused until someone
unlocks by hand, and two that start in the same instant both find it free. So a run holds a lock of the
operating system as well, which nobody can take twice and which ends with its process, however it ends.
Where that lock is free, on the host that the run before was started on, Snakemake's is stale.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import psutil

from discern.files import write_text

#: Descriptors of the locks that this process holds: they close, and so free the locks, when it ends.
_held: list[int] = []


def hold_folder(folder: Path | str = ".") -> bool:
    """Take the folder for this process until it ends; False if another one has it.

    True as well where the file system knows no such locks: Snakemake's own is what is left there.
    """
    # Not inherited: a job that outlives a killed Snakemake does not keep the folder.
    descriptor = os.open(_run_file(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        os.close(descriptor)
        return True
    _held.append(descriptor)
    return True


def held(folder: Path | str = ".") -> bool:
    """Whether a living process has taken the folder."""
    if not _run_file(folder).exists():
        return False
    descriptor = os.open(_run_file(folder), os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _run_file(folder: Path | str) -> Path:
    return Path(folder) / ".snakemake" / "lock-run"


def earlier_runs(folder: Path) -> list[int]:
    """Process ids of Snakemakes that work in ``folder`` and were started before this process.

    Those that it has started, and its parents, do not count; nor do the Snakemakes inside cluster jobs,
    which may go on after their own was killed. Of two that start together on a stale lock, one releases it.
    """
    mine = psutil.Process()
    above = {mine.pid, *(parent.pid for parent in mine.parents())}
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "create_time"]):
        about = process.info
        older = (about["create_time"] or 0, about["pid"]) < (mine.create_time(), mine.pid)
        if about["pid"] in above or not older or not _is_snakemake(about["cmdline"] or []):
            continue
        try:
            if Path(process.cwd()) == folder.resolve():
                found.append(about["pid"])
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return found


def _is_snakemake(command: list[str]) -> bool:
    """Whether a command line is that of Snakemake itself: not of an editor, a search or a job."""
    inside_job = "--mode" in command or "--target-jobs" in command
    names = [Path(word).name for word in command[:5]]  # python -m snakemake, python /path/to/snakemake, ...
    return "snakemake" in names and not inside_job


def release_stale_lock(folder: Path | str = ".") -> bool:
    """Remove the lock of a dead run of this host; note this host as the owner of the next lock."""
    folder = Path(folder)
    state, host = folder / ".snakemake", socket.gethostname()
    owner = state / "lock-host"
    locks = sorted((state / "locks").glob("*.lock"))
    if not locks:
        write_text(owner, host)
        return False
    if not owner.is_file() or owner.read_text(encoding="utf-8") != host:
        return False
    if held(folder) or earlier_runs(folder):
        return False
    for lock in locks:
        lock.unlink(missing_ok=True)
    return True
