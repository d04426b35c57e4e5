"""What the terminal shows of a study: how its run goes, Table 3 as text, and where the rest lies."""

from __future__ import annotations

import socket
from pathlib import Path

from discern import paths
from discern.errors import problem
from discern.files import alive, read_json
from discern.run_words import summary


def text(study: str, root: Path | str = ".") -> str:
    """Table 3 of every protocol, the gap between them, and the paths of scores and report.

    Raises DiscernError if the study has no table yet.
    """
    root = Path(root)
    folder = root / paths.TABLES.format(study=study)
    found = [*folder.glob("table3.txt"), *sorted(folder.glob("table3.*.txt"))]
    if not found:
        done = sorted(p.parents[1].name for p in root.glob("results/*/tables/table3.txt"))
        raise problem(
            str(folder),
            f"study '{study}' has no table yet",
            allowed=done,
            repair="run the study first: snakemake --cores all --configfile <its file>",
        )
    found += folder.glob("gap.txt")
    lines = [file.read_text(encoding="utf-8").rstrip("\n") + "\n" for file in found]
    lines.append(f"scores: {root / paths.TIDY.format(study=study)}")
    report = root / paths.REPORT.format(study=study)
    lines.append(f"report: {report}" + ("" if report.is_file() else " (not made yet)"))
    return "\n".join(lines)


def status(study: str, root: Path | str = ".") -> str:
    """How the last run of a study went, or goes: the summary that it ends with.

    Raises DiscernError if the study was never run here.
    """
    file = Path(root) / paths.RUN.format(study=study)
    if not file.is_file():
        done = sorted(p.parent.name for p in Path(root).glob("results/*/run.json"))
        raise problem(
            str(file),
            f"study '{study}' was not run here yet",
            allowed=done,
            repair="run the study first: snakemake --cores all --configfile <its file>",
        )
    facts = read_json(file)
    here = facts["host"] == socket.gethostname()
    if facts["status"] == "running" and here and not alive(facts["pid"]):
        facts |= {"status": "killed", "seconds_left": None}
    return summary(facts, str(file)) + f"\n  as of {facts['updated']}"
