"""Is this machine fit for a study? Interpreter, tools, disk, memory, processors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
LOW_DISK, NO_DISK, LOW_MEMORY = 20 * GIB, 2 * GIB, 8 * GIB


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    status: str  # PASS, WARN or FAIL; empty: the head of a table
    subject: str
    text: str
    repair: str = ""


def machine() -> Iterator[Finding]:
    """Interpreter, tools, disk, memory, processors."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info[:2] == (3, 11)
    yield Finding("PASS" if good else "FAIL", "python", version, "" if good else "use Python 3.11")
    for tool, repair in (("git", "install git"), ("make", "install make, or run its commands by hand")):
        yield _tool(tool, tool, "WARN", repair)
    yield _uv()
    yield _conda()
    index = os.environ.get("PIP_INDEX_URL") or os.environ.get("UV_DEFAULT_INDEX")
    # The address may hold a password, so only its presence is shown.
    yield Finding("PASS", "package index", "set by the environment" if index else "pip's own configuration")
    yield _disk()
    for folder in ("resources", "results", ".snakemake"):
        yield _writable(Path(folder))
    yield _memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("PASS", "processors", f"{cores} cores")
    yield _gpu()


def _tool(subject: str, command: str, otherwise: str, repair: str) -> Finding:
    path = shutil.which(command)
    return Finding("PASS", subject, path) if path else Finding(otherwise, subject, "not found", repair)


def _uv() -> Finding:
    try:
        from uv import find_uv_bin

        return Finding("PASS", "uv", find_uv_bin())
    except (ImportError, FileNotFoundError):
        return _tool("uv", "uv", "WARN", "needed without --use-conda: pip install uv")


def _conda() -> Finding:
    found = next((path for name in ("mamba", "conda") if (path := shutil.which(name))), None)
    return Finding("PASS", "conda", found or "not found; only --use-conda needs it")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    text = f"{free / GIB:.0f} GiB free"
    if free < NO_DISK:
        return Finding("FAIL", "disk", text, f"free at least {LOW_DISK // GIB} GiB")
    if free < LOW_DISK:
        return Finding("WARN", "disk", text, "environments, weights and images may need more")
    return Finding("PASS", "disk", text)


def _writable(folder: Path) -> Finding:
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if os.access(existing, os.W_OK):
        return Finding("PASS", "folder", f"{folder} is writable")
    return Finding("FAIL", "folder", f"{folder} cannot be written", f"chown or chmod {existing}")


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return Finding("WARN", "memory", "unknown")
    repair = "" if total >= LOW_MEMORY else "use fewer cores, or smaller batch_size in the model cards"
    return Finding("WARN" if repair else "PASS", "memory", f"{total / GIB:.0f} GiB", repair)


def _gpu() -> Finding:
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        done = subprocess.run(query, text=True, capture_output=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return Finding("PASS", "GPU", "; ".join(done.stdout.strip().splitlines()))
    return Finding("WARN", "GPU", "none found", "large encoders are slow on processors; small ones are fine")
