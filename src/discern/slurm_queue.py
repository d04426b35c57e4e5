"""Slurm jobs of a run that was killed live on: a new run must not start the same work beside them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

#: States in which a job has not begun; of the rest, all that `squeue` shows by default still run.
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
#: Seconds between two looks at the queue.
PAUSE = 5.0


def earlier_jobs(folder: Path | str = ".") -> dict[str, str]:
    """State of every job by its number that a Snakemake in ``folder`` submitted and that has not ended.

    Empty where no run of this folder was ever submitted, or where Slurm cannot be asked.
    """
    folder = Path(folder).resolve()
    if not (folder / ".snakemake" / "slurm_logs").is_dir() or shutil.which("squeue") is None:
        return {}
    command = ["squeue", "--me", "--noheader", "--format=%i|%T|%k|%Z"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split("|", 3) for line in done.stdout.splitlines() if line.count("|") >= 3]
    # The executor writes rule and wildcards into the comment, and submits from the folder.
    return {
        job: state
        for job, state, comment, place in rows
        if comment.startswith("rule_") and Path(place) == folder
    }


def settle(folder: Path | str = ".", say: Callable[[str], None] = print, pause: float = PAUSE) -> int:
    """Cancel the earlier jobs that wait, and wait for those that run. How many ran.

    Where the folder is locked another run lives (locks of dead ones are released before): its jobs stay.
    """
    if any((Path(folder) / ".snakemake" / "locks").glob("*.lock")):
        return 0
    jobs = earlier_jobs(folder)
    if waiting := [job for job, state in jobs.items() if state in WAITING]:
        subprocess.run(["scancel", *waiting], check=False)
        say(f"cancelled {len(waiting)} waiting Slurm jobs of a run that was killed")
    running = [job for job in jobs if job not in waiting]
    if running:
        say(f"waiting for Slurm jobs of a run that was killed: {' '.join(running)} (to start anew: scancel)")
    while earlier_jobs(folder):
        time.sleep(pause)
    return len(running)
