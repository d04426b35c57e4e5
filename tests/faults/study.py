"""A study of every kind of rule that ends within a minute, and what two runs of it must have in common."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import yaml

from discern.contracts import METADATA_KEY
from tests.workflow.harness import Project

NAME, STUDY = "faults", "config/faults.yaml"
CONTENT = {
    "study": NAME,
    "models": ["mobilenetv2", "efficientnet_lite0", "pixels32"],  # of two runtimes, and of none
    "datasets": ["mr_organs"],
    "umap": {"datasets": ["mr_organs"], "n_neighbors": [15], "min_dist": [0.1]},
    "rise": {"datasets": ["mr_organs"], "n_masks": 32, "max_images": 1},
    "reference": None,
}
#: A few seconds: no network, no maps.
SMALL = "config/small.yaml"
SMALL_CONTENT = CONTENT | {
    "study": "small",
    "models": ["pixels32"],
    "umap": {"datasets": []},
    "rise": {"datasets": []},
}
MADE = ("results", "resources/datasets", "resources/weights")
#: What holds times alone, and the cache whose parts are named after the moment at which they were written.
TIMES = re.compile(r"/(logs|benchmarks|inspected)/|/costs?(_jobs)?\.csv$|/run\.json$")


def new_project(path: Path) -> Project:
    """The checkout with the study, nothing made but environments and downloads."""
    project = Project.copy_to(path)
    (path / STUDY).write_text(yaml.safe_dump(CONTENT))
    (path / SMALL).write_text(yaml.safe_dump(SMALL_CONTENT))
    return project


def made(project: Project) -> list[Path]:
    """Every file that a run made, relative to the project."""
    files = [f for folder in MADE for f in (project.path / folder).rglob("*") if f.is_file()]
    return sorted(f.relative_to(project.path) for f in files)


def finished_files(project: Project) -> int:
    """How many files have their names, counted beside jobs that may still be at work."""
    return sum(
        not name.startswith(".")
        for folder in MADE
        for _, _, names in os.walk(project.path / folder)
        for name in names
    )


def leftovers(project: Project) -> list[Path]:
    """Unfinished files."""
    return [f for f in made(project) if ".tmp" in f.name or f.name.endswith((".part", ".incomplete"))]


def contents(project: Project) -> dict[str, str]:
    """Digest of every result, byte for byte; of those that hold times, of all the rest."""
    found = {}
    for file in made(project):
        if not TIMES.search(f"/{file}") and not file.name.endswith(".lock"):
            found[str(file)] = hashlib.sha256(_timeless(project.path / file)).hexdigest()
    return found


def _timeless(file: Path) -> bytes:
    if file.name == "index.html":
        # The speed of each model, and the table of what the jobs took.
        page = re.sub(r"<dt>Speed</dt><dd>.*?</dd>", "", file.read_text())
        return re.sub(r"<h3>Costs</h3>.*?(?=</section>)", "", page, flags=re.DOTALL).encode()
    if "/features/" in str(file):
        table = pq.read_table(file)
        about = json.loads(table.schema.metadata[METADATA_KEY])
        del about["images_per_second"]
        return repr((table.num_rows, about)).encode() + _columns(table)
    if file.name.endswith(".scores.parquet"):
        table = pq.read_table(file)
        rows = table.to_pylist()
        for row in rows:
            for fit in row["validation"]:
                del fit["seconds"]
        return repr((rows, table.schema.metadata)).encode()
    return file.read_bytes()


def _columns(table) -> bytes:
    """Every buffer of every column."""
    return b"".join(
        bytes(buffer)
        for column in table.combine_chunks().columns
        for chunk in column.chunks
        for buffer in chunk.buffers()
        if buffer is not None
    )


def start(project: Project, *arguments: str, study: str = STUDY, log: str = "run.log") -> subprocess.Popen:
    """A run in a session of its own; its output goes to a file."""
    with (project.path / log).open("w") as output:
        return subprocess.Popen(
            project.command(*arguments, study=study), cwd=project.path, start_new_session=True,
            stdout=output, stderr=subprocess.STDOUT,
            # A shell that starts something in the background has it ignore interrupts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip


def kill_group(process: subprocess.Popen) -> None:
    """SIGKILL of Snakemake and every job."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_alone(process: subprocess.Popen) -> None:
    """SIGKILL of Snakemake: its jobs go on without it."""
    process.kill()
    process.wait()


def orphans(project: Project) -> list[psutil.Process]:
    """Processes that work in the project's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == project.path:
                found.append(process)
        except psutil.Error:
            continue
    return found


def settle(project: Project, seconds: float = 120) -> None:
    """Wait until nobody works in the project any more."""
    deadline = time.monotonic() + seconds
    while orphans(project):
        assert time.monotonic() < deadline, orphans(project)
        time.sleep(0.1)


def forget(project: Project) -> None:
    """Remove all that was made, so that the next run begins at the beginning."""
    for folder in (*MADE, ".snakemake"):
        shutil.rmtree(project.path / folder, ignore_errors=True)
