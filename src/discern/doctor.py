"""``python -m discern doctor``: is this machine and this study ready? PASS, WARN or FAIL, with the repair.

FAIL means that no run can succeed; WARN that some cells will fail or be slow. No network is used.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from discern import preflight
from discern.config import Study
from discern.data.originals.fetch import hub_token
from discern.environments import read_environment
from discern.errors import DiscernError
from discern.machine import Finding, machine
from discern.model_state import HEAD, ModelState, aligned, columns, model_state, total_download
from discern.registry import Registry
from discern.sources import size_text


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
    """Cards against environments, then every model and every data set of the study."""
    try:
        preflight.check_cards(study, registry)
    except DiscernError as error:
        yield Finding("FAIL", "cards", str(error), "correct the file named above, or the study")
    yield from models(study, registry)
    yield from datasets(study, registry)


def models(study: Study, registry: Registry) -> Iterator[Finding]:
    """A line for every model, what to do below it, and the size of the downloads in all."""
    states = []
    for name in study.models:
        with contextlib.suppress(DiscernError):  # reported with the cards
            states.append(model_state(name, registry))
    rows = [("model", *HEAD), *((s.name, *columns(s, study.allow_remote_code)) for s in states)]
    head, *lines = aligned(rows)
    yield Finding("", "model", head)
    for state, line in zip(states, lines, strict=True):
        forbidden = state.remote_code and not study.allow_remote_code
        repair = (
            "set allow_remote_code: true in the study if you trust that code" if forbidden else state.need
        )
        status = "FAIL" if forbidden else "WARN" if state.need else "PASS"
        yield Finding(status, "model", line, repair)
    yield _downloads(states)
    gated = [s.name for s in states if s.gated and s.fetched]
    if gated and not hub_token():
        yield Finding(
            "WARN",
            "HF_TOKEN",
            f"not set; needed by {', '.join(gated)}",
            "accept the terms of each, then set HF_TOKEN or run `hf auth login`",
        )


def _downloads(states: list[ModelState]) -> Finding:
    known, unknown = total_download(states)
    text = f"{size_text(known)} to download"
    if unknown:
        text += f", and {len(unknown)} of unknown size: {', '.join(unknown)}"
    here = next(p for p in (Path("resources").absolute(), *Path.cwd().parents, Path("/")) if p.exists())
    if known > shutil.disk_usage(here).free:
        return Finding(
            "WARN", "weights", text, "free space, or make resources/weights a link to a larger disk"
        )
    return Finding("PASS", "weights", text)


def datasets(study: Study, registry: Registry) -> Iterator[Finding]:
    """Data sets that a person must bring; the others are counted."""
    found = []
    names = []
    with contextlib.suppress(DiscernError):  # reported with the cards
        names = list(dict.fromkeys(registry.datasets.owner(d) for d in study.datasets))
    for name in names:
        if need := preflight.dataset_need(registry.datasets[name], study.place(name)):
            found.append((name, need))
    for name, need in found:
        first, *rest = need.removeprefix(f"data set '{name}': ").splitlines()
        todo = "; ".join(line.strip().removeprefix("repair: ") for line in rest)
        yield Finding("WARN", f"data set {name}", first, todo)
    total = len(names)
    yield Finding("PASS", "data sets", f"{total - len(found)} of {total} are here or fetched automatically")


def render(findings: Iterable[Finding]) -> str:
    """One line a finding, its repair below."""
    lines = []
    for f in findings:
        first, *rest = f.text.splitlines() or [""]
        start = f"{f.status}  {f.subject}: "
        # Without a status it is the head of a table.
        lines.append((start if f.status else " " * (len(start) + len("PASS"))) + first)
        lines += [f"      {line.strip()}" for line in rest]
        if f.repair and f.status != "PASS":
            lines.append(f"      -> {f.repair}")
    return "\n".join(lines)
