"""What is not work: imports, planning, the scheduler: ``python -m benchmarks.workflow [--full]``.

Planning is measured on a synthetic study: copies of the registry's own cards under new names, every model
on every data set, nothing made yet, as a dry run. CPU seconds include those of child processes.
"""

import argparse
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.side_by_side import Table, machine
from discern import paths
from discern.config import read_study
from discern.registry import Registry
from discern.report.costs import cost_card, measured_jobs

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ["numpy", "pyarrow", "matplotlib.figure", "scipy.stats", "sklearn.svm", "umap", "torch",
             "torchvision", "timm", "open_clip"]  # fmt: skip
SIZES = {336: (8, 8), 10_000: (60, 40), 100_000: (200, 123)}  # about so many jobs: models, data sets
TRIVIAL = 300
#: Starts a command from a small process: what a process forks from counts as its own peak memory.
LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w") as file:
    print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=file)
sys.exit(process.returncode != 0)
"""
TRIVIAL_RULES = """
rule all:
    input: expand("{i}.txt", i=range(%d))
rule one:
    output: "{i}.txt"
    shell: "touch {output}"
"""


class Spent(NamedTuple):
    """CPU seconds and peak memory of a process, and what it printed."""

    seconds: float
    mib: float
    text: str


def spent(command: Sequence[str | Path], folder: Path = ROOT, **variables: str) -> Spent:
    """Run a command to its end; SystemExit with its messages if it fails."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile("w+") as out, tempfile.NamedTemporaryFile("r") as cost:
        status = subprocess.call(
            [sys.executable, "-S", "-c", LAUNCHER, cost.name, *map(str, command)],
            cwd=folder, env=environment | variables, stdout=out, stderr=out,
        )  # fmt: skip
        out.seek(0)
        text = out.read()
        if status:
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{text[-2000:]}")
        seconds, kib = map(float, cost.read().split())
    return Spent(seconds, kib / 1024, text)


def synthetic(folder: Path, models: int, datasets: int) -> None:
    """A registry of ``models`` and ``datasets`` and the study of all of them, in ``folder``."""
    names: dict[str, list[str]] = {}
    for kind, n in (("models", models), ("datasets", datasets)):
        (folder / "registry" / kind).mkdir(parents=True)
        cards = [yaml.safe_load(f.read_text()) for f in sorted((ROOT / "registry" / kind).glob("*.yaml"))]
        flat = [c for c in cards if not (c.get("volume") or c.get("remote_code") or _volumes(c))]
        names[kind] = [f"{kind[0]}{i:04d}" for i in range(n)]
        for name, card in zip(names[kind], itertools.cycle(flat), strict=False):
            text = yaml.safe_dump(card | {"name": name}, sort_keys=False)
            (folder / "registry" / kind / f"{name}.yaml").write_text(text)
    (folder / "envs").symlink_to(ROOT / "envs")
    (folder / "config.yaml").write_text(yaml.safe_dump({"study": "synthetic", **names}))


def _volumes(card: dict[str, object]) -> bool:
    return "volume" in str(card.get("modality", ""))


def snakemake(folder: Path, *arguments: str, profile: Path = ROOT / "profiles" / "default") -> Spent:
    """A call of Snakemake in ``folder``."""
    command = [sys.executable, "-m", "snakemake", "--directory", str(folder), "--quiet", "rules"]
    return spent([*command, "--workflow-profile", profile, *arguments], folder)


def planned(models: int, datasets: int) -> tuple[int, Spent]:
    """Number of jobs and cost of a dry run of the synthetic study."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic(folder, models, datasets)
        done = snakemake(folder, "-s", str(ROOT / "Snakefile"), "--dry-run")
    total = next(line for line in done.text.splitlines() if line.startswith("total"))
    return int(total.split()[1]), done


def planning(sizes: Sequence[int]) -> Table:
    """One row per size; 100,000 jobs on the line through the smallest and the largest that was run."""
    found = [planned(*SIZES[size]) for size in sizes]
    first = found[0]
    rows: list[tuple[object, ...]] = []
    for jobs, done in found:
        more = 1000 * (done.seconds - first[1].seconds) / (jobs - first[0]) if jobs > first[0] else None
        rows.append(
            (f"{jobs:,}", f"{done.seconds:.1f}", "" if more is None else f"{more:.1f}", f"{done.mib:.0f}")
        )
    if len(found) > 1 and 100_000 not in sizes:
        (n, low), (m, high) = first, found[-1]
        times = (100_000 - n) / (m - n)
        seconds, mib = (a + times * (b - a) for a, b in zip(low[:2], high[:2], strict=True))
        rows.append(("100,000, extrapolated", f"{seconds:.0f}", "", f"{mib:.0f}"))
    heads = ("jobs", "CPU s", "CPU ms for each job more", "memory, MiB")
    return Table("Planning", "Dry run of a study of which nothing is made, start included.", heads, rows)


def scheduled(jobs: int, scheduler: str) -> float:
    """CPU seconds of a workflow of jobs that do nothing, less those of one with a single job."""
    costs = []
    for n in (1, jobs):
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "Snakefile").write_text(TRIVIAL_RULES % n)
            costs.append(snakemake(Path(name), "all", "--cores", "2", "--scheduler", scheduler).seconds)
    return costs[1] - costs[0]


def scheduling(jobs: int) -> Table:
    """The scheduler of the profiles and Snakemake's default one."""
    costs = {name: scheduled(jobs, name) for name in ("greedy", "ilp")}
    rows = [(name, f"{1000 * s / jobs:.0f}", f"{jobs / s:.0f}", f"{s / costs['greedy']:.1f}")
            for name, s in costs.items()]  # fmt: skip
    heads = ("scheduler", "CPU ms a job", "jobs per CPU s", "relative")
    return Table("Scheduler", f"{jobs} ready jobs that touch a file; profiles choose `greedy`.", heads, rows)


def imports(libraries: Sequence[str]) -> Table:
    """Libraries with their byte code at hand, and in the first process that lacks it."""
    rows = []
    for library in filter(lambda name: importlib.util.find_spec(name.split(".")[0]), libraries):
        command = [sys.executable, "-c", f"import {library}"]
        with tempfile.TemporaryDirectory() as cache:
            first, second = (spent(command, PYTHONPYCACHEPREFIX=cache).seconds for _ in range(2))
        rows.append((library, f"{second:.1f}", f"{first:.1f}", f"{first / second:.1f}"))
    heads = ("import", "CPU s", "CPU s without byte code", "relative")
    about = "Files in memory. An environment is compiled when it is built, so jobs pay the first column."
    return Table("Imports", about, heads, rows)


def starts(scripts: Sequence[Path]) -> Table:
    """Every script up to its arguments: what is imported before a job can refuse or begin."""
    rows = []
    for script in scripts:
        cost = min(spent([sys.executable, script, "--help"]) for _ in range(2))
        rows.append((script.stem, f"{cost.seconds:.2f}", f"{cost.mib:.0f}"))
    about = "Imports of a script; encoders, UMAP and figures import their libraries when they are used."
    return Table("Start of a job", about, ("rule", "CPU s", "memory, MiB"), rows)


def stages(files: Sequence[str] = ("config.yaml", "config/demo.yaml")) -> list[Table]:
    """Where the time of the demonstration went; nothing if it has not been run here."""
    study = read_study(*files)
    card = cost_card(measured_jobs(study, Registry(study.registry), ROOT))
    rows = [
        (c.name, c.jobs, f"{c.share:.0%}", "" if c.load is None else f"{c.load:.2f}",
         "" if c.peak_mb is None else f"{c.peak_mb:.0f}")
        for c in card if c.by == "rule" and c.jobs
    ]  # fmt: skip
    file = paths.TABLES.format(study=study.study) + "/costs.csv"
    about = f"By the benchmark files of `make demo`; the same as `{file}`."
    heads = ("rule", "jobs", "share of the time", "load", "peak memory, MB")
    return [Table("Stages of the demonstration", about, heads, rows)] if rows else []


def tables(quick: bool, sizes: Sequence[int] = (336, 10_000)) -> list[Table]:
    """Imports, starts, planning, scheduling, and the demonstration's stages."""
    scripts = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
    scripts = [s for s in scripts if s.stem != "bootstrap"]
    if quick:
        return [imports(LIBRARIES[:2]), starts(scripts[:1]), planning([336]), scheduling(20), *stages()]
    return [imports(LIBRARIES), starts(scripts), planning(sizes), scheduling(TRIVIAL), *stages()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="plan 100,000 jobs too: ten minutes, 3 GiB")
    arguments = parser.parse_args()
    print(machine(), *tables(False, tuple(SIZES) if arguments.full else (336, 10_000)), sep="\n\n")
