"""``python -m discern doctor``: is this machine and this study ready? PASS, WARN or FAIL, with the repair.

FAIL means that no run can succeed; WARN that some cells will fail or be slow. No network is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from discern import preflight
from discern.config import Study
from discern.data.fetch import hub_token
from discern.environments import read_environment
from discern.errors import DiscernError
from discern.registry import Registry
from discern.sources import HubFile

GIB = 2**30
LOW_DISK, NO_DISK, LOW_MEMORY = 20 * GIB, 2 * GIB, 8 * GIB


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    status: str  # PASS, WARN or FAIL
    subject: str
    text: str
    repair: str = ""


def examine(files: list[Path], study: Study | None, broken: str = "") -> list[Finding]:
    """Everything about machine, registry and study. ``broken``: why the study could not be read."""
    findings = [*machine(), *environments()]
    names = ", ".join(str(f) for f in files)
    if study is None:
        findings.append(Finding("FAIL", "study", broken, f"correct {names}"))
        folders = ["registry"] if Path("registry").is_dir() else []
    else:
        findings.append(Finding("PASS", "study", f"{study.study} ({names})"))
        folders = study.registry
    if folders:
        findings += registry_findings(Registry(folders))
    if study is not None:
        findings += inputs(study, Registry(study.registry))
    return findings


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


def environments() -> Iterator[Finding]:
    """Every file in envs/ pins everything."""
    files = sorted(preflight.ENVIRONMENTS.glob("*.yaml"))
    if not files:
        yield Finding("FAIL", "environments", "no envs/*.yaml here", "run in the folder of the checkout")
    for file in files:
        try:
            _, pins = read_environment(file)
            yield Finding("PASS", "environment", f"{file.stem}: {len(pins)} packages pinned")
        except DiscernError as error:
            yield Finding("FAIL", "environment", str(error), "pin every package")


def registry_findings(registry: Registry) -> Iterator[Finding]:
    """Every card parses, whether the study uses it or not."""
    for kind, shelf in (("models", registry.models), ("data sets", registry.datasets)):
        good = 0
        for name in shelf.names():
            try:
                shelf[name]
                good += 1
            except DiscernError as error:
                yield Finding("FAIL", "card", str(error), f"correct {shelf.file(name)}")
        yield Finding("PASS", "registry", f"{good} cards of {kind}")


def inputs(study: Study, registry: Registry) -> Iterator[Finding]:
    """Cards against environments, data and weights against what is here, token of gated weights."""
    try:
        preflight.check_cards(study, registry)
    except DiscernError as error:
        yield Finding("FAIL", "cards", str(error), "correct the file named above")
        return
    missing = preflight.missing_inputs(study, registry)
    for item in missing:
        need = item.need.removeprefix(f"{item.kind} '{item.name}': ")
        place = f"place: {item.place}" if item.place and item.place not in need else ""
        yield Finding("WARN", f"{item.kind} {item.name}", need, place)
    total = len(study.models) + len(study.datasets)
    yield Finding("PASS", "inputs", f"{total - len(missing)} of {total} are here or fetched automatically")
    gated = [m for m in study.models if getattr(_hub(registry, m), "gated", False)]
    if gated and not hub_token():
        yield Finding(
            "WARN",
            "HF_TOKEN",
            f"not set; needed by {', '.join(gated)}",
            "accept the terms, then set HF_TOKEN",
        )


def _hub(registry: Registry, model: str) -> HubFile | None:
    source = registry.models[model].weights
    return source if isinstance(source, HubFile) else None


def render(findings: Iterable[Finding]) -> str:
    """One line a finding, its repair below."""
    lines = []
    for f in findings:
        first, *rest = f.text.splitlines() or [""]
        lines.append(f"{f.status}  {f.subject}: {first}")
        lines += [f"      {line.strip()}" for line in rest]
        if f.repair and f.status != "PASS":
            lines.append(f"      -> {f.repair}")
    return "\n".join(lines)
