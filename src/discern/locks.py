"""Release the lock that a killed run left behind, and no other.

Snakemake's lock is a file without an owner, so after a SIGKILL every later run is refused until someone
unlocks by hand. Here the host is noted beside it; on the same host the process table says whether the
owner still lives. A run on another host of a shared file system is never disturbed.
"""

from __future__ import annotations

import socket
from pathlib import Path

import psutil

from discern.files import write_text


def other_runs(folder: Path) -> list[int]:
    """Process ids of Snakemakes working in ``folder``, without this process and its parents."""
    mine = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if process.info["pid"] in mine or "snakemake" not in command:
            continue
        try:
            if Path(process.cwd()) == folder.resolve():
                found.append(process.info["pid"])
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return found


def release_stale_lock(folder: Path | str = ".") -> bool:
    """Remove the lock of a dead run of this host; note this host as the owner of the next lock."""
    folder = Path(folder)
    state, host = folder / ".snakemake", socket.gethostname()
    owner = state / "lock-host"
    locks = sorted((state / "locks").glob("*.lock"))
    if not locks:
        write_text(owner, host)
        return False
    if not owner.is_file() or owner.read_text(encoding="utf-8") != host or other_runs(folder):
        return False
    for lock in locks:
        lock.unlink(missing_ok=True)
    return True
