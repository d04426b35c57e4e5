"""A small study with every rule: a network that asks for a GPU and a control, on two data sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.data.own_data import cards, my_table
from tests.workflow.harness import ROOT, Project, Run

#: The environment with the executor; others do without, since it is imported at each start of Snakemake.
PYTHON = ROOT / ".venv-slurm" / "bin" / "python"
STUDY = {
    "study": "cluster",
    "models": ["mobilenetv2", "pixels32"],
    "datasets": ["mr_organs", "my_table"],
    "data_root": "own",
    "reference": None,
    "split": {"protocols": ["image", "group"], "folds": 3},
    "svm": {"t": [1, 100]},
    "umap": {"n_neighbors": [15], "min_dist": [0.1]},
    "rise": {"datasets": ["mr_organs"], "n_masks": 64, "max_images": 2},
    "compare": {"n_bootstrap": 50},
}
FILE = "config/cluster.yaml"
#: What differs from a real cluster: it answers at once, and its files are seen at once.
QUICK = [
    "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "1",
    "--latency-wait", "10", "--slurm-keep-successful-logs",
]  # fmt: skip


def written(path: Path, study: dict | None = None) -> Project:
    """A copy of the checkout with the study and its data set."""
    project = Project.copy_to(path)
    (path / "registry/datasets/my_table.yaml").write_text(yaml.safe_dump(cards()["my_table"]))
    my_table(path / "own" / "my_table")
    (path / FILE).write_text(yaml.safe_dump(STUDY if study is None else study))
    return project


def command(*arguments: str, file: str = FILE) -> list[str]:
    """The call of Snakemake that submits a study to Slurm."""
    return [
        str(PYTHON), "-m", "snakemake", "--configfile", file, "--workflow-profile", "profiles/slurm",
        *QUICK, *arguments,
    ]  # fmt: skip


def submitted(project: Project, *arguments: str, file: str = FILE) -> subprocess.Popen[bytes]:
    """Snakemake with the Slurm profile, started; its words go to the end of slurm.log."""
    with log_of(project).open("ab") as log:
        return subprocess.Popen(
            command(*arguments, file=file), cwd=project.path, stdout=log, stderr=log, env=environment()
        )


def run(project: Project, *arguments: str, file: str = FILE) -> Run:
    """The same, to its end."""
    start = log_of(project).stat().st_size if log_of(project).exists() else 0
    status = submitted(project, *arguments, file=file).wait()
    return Run(status, log_of(project).read_bytes()[start:].decode(errors="replace"))


def log_of(project: Project) -> Path:
    """What all Snakemakes with Slurm said."""
    return project.path / "slurm.log"


def environment() -> dict[str, str]:
    """Bytecode is kept: three Snakemakes start for every job."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def locally(project: Project, *arguments: str, file: str = FILE) -> Run:
    """A study on this machine, without Slurm."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--configfile", file, "--cores", str(os.cpu_count()), *arguments],
        cwd=project.path, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return Run(done.returncode, done.stdout)
