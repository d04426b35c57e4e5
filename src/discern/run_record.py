"""A run as it goes: what is done, what failed and why, how long it may still take; on screen and as a file.

Fed by the workflow's own log events, in the workflow's own process: nothing heavy is imported, and a
disk that is full costs the record, not the run. ``results/<study>/run.json`` is renewed while the run
goes on, so that another terminal, or a person after a power cut, can read how far it came.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from discern.files import write_json
from discern.report.failures import reason_in
from discern.run_words import duration, summary

#: Seconds between two lines on the screen, and between two versions of the file.
SPOKEN, WRITTEN = 30.0, 10.0
#: How many of the slowest jobs are named.
SLOWEST = 8


@dataclass
class Job:
    """One job of this run. ``seconds``: of its own work if it measured that, else since it was given out."""

    rule: str
    wildcards: dict[str, str]
    log: str = ""
    benchmark: str = ""
    started: float = 0.0
    attempts: int = 0
    state: str = "running"  # or done, failed
    seconds: float = 0.0
    reason: str = ""

    def facts(self) -> dict[str, Any]:
        """What the file says of it."""
        kept = ("rule", "wildcards", "log", "attempts", "seconds", "reason")
        return {name: value for name, value in asdict(self).items() if name in kept and value}


@dataclass(eq=False)
class RunRecord(logging.Handler):
    """A handler for Snakemake's logger. ``skipped``: (what, why) of what the study leaves out."""

    study: str
    file: Path
    skipped: list[tuple[str, str]] = field(default_factory=list)
    quiet: bool = False
    log: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._jobs: dict[int, Job] = {}
        self._planned: Counter[str] = Counter()
        self._began = time.time()
        self._spoken = self._written = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of one event."""
        take = getattr(self, f"_on_{getattr(record, 'event', None)}", None)
        if take is None:
            return
        try:
            take(record)
        except Exception:  # a record of the run must never end it
            self.handleError(record)

    def _on_run_info(self, record: Any) -> None:
        self._planned = Counter({rule: n for rule, n in record.stats.items() if rule != "total"})

    def _on_job_info(self, record: Any) -> None:
        job = self._jobs.setdefault(record.jobid, Job(record.rule_name, dict(record.wildcards or {})))
        job.log, job.benchmark = next(iter(record.log or []), ""), record.benchmark or ""
        job.started, job.state, job.reason = time.time(), "running", ""
        job.attempts += 1

    def _on_job_finished(self, record: Any) -> None:
        if job := self._jobs.get(record.job_id):
            job.state, job.seconds = "done", _measured(job)

    def _on_job_error(self, record: Any) -> None:
        job = self._jobs.setdefault(record.jobid, Job(record.rule_name, {}, started=time.time(), attempts=1))
        job.state, job.seconds = "failed", round(time.time() - job.started, 1)
        said = [" ".join(str(record.rule_msg).split())] if getattr(record, "rule_msg", None) else []
        job.reason = "; ".join([*said, reason_in(Path(job.log))] if job.log else said)

    def _on_progress(self, record: Any) -> None:
        now = time.monotonic()
        if now - self._written >= WRITTEN:
            self._written = now
            self._write("running")
        if now - self._spoken >= SPOKEN and not self.quiet:
            self._spoken = now
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        facts = self.facts("running")
        jobs = facts["jobs"]
        left = f", about {duration(facts['seconds_left'])} left" if facts["seconds_left"] is not None else ""
        return f"{jobs['done']} of {jobs['total']} jobs done, {jobs['failed']} failed{left}"

    def facts(self, status: str) -> dict[str, Any]:
        """The record as plain values; ``status`` is running, finished or failed."""
        done, failed = self._in("done"), self._in("failed")
        lost = self._planned - Counter(job.rule for job in self._jobs.values())
        slowest = sorted(done, key=lambda job: -job.seconds)[:SLOWEST]
        return {
            "study": self.study,
            "status": status,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _moment(self._began),
            "updated": _moment(time.time()),
            "seconds": round(time.time() - self._began, 1),
            "seconds_left": self._left() if status == "running" else None,
            "jobs": {
                "total": max(self._planned.total(), len(self._jobs)),
                "done": len(done),
                "failed": len(failed),
                "running": len(self._in("running")),
                "retried": sum(job.attempts > 1 for job in self._jobs.values()),
            },
            "failed": [job.facts() for job in failed],
            "not_started": dict(lost),
            "skipped": [{"what": what, "reason": why} for what, why in self.skipped],
            "slowest": [job.facts() for job in slowest],
            "log": self.log,
        }

    def _in(self, state: str) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == state]

    def _left(self) -> float | None:
        """Seconds: what is left of every rule at that rule's pace, by as many at once as there were."""
        done = [job for job in self._in("done") if job.started]
        elapsed = time.time() - self._began
        if not done or elapsed <= 0:
            return None
        paces = {job.rule: [j.seconds for j in done if j.rule == job.rule] for job in done}
        usual = sum(job.seconds for job in done) / len(done)
        ended = Counter(job.rule for job in self._jobs.values() if job.state != "running")
        work = sum(
            n * (sum(paces[rule]) / len(paces[rule]) if rule in paces else usual)
            for rule, n in (self._planned - ended).items()
        )
        running = [time.time() - job.started for job in self._in("running")]
        side_by_side = max(1.0, (sum(job.seconds for job in done) + sum(running)) / elapsed)
        return round(max(0.0, work - sum(running)) / side_by_side, 1)

    def _write(self, status: str) -> None:
        with contextlib.suppress(OSError):
            write_json(self.file, self.facts(status))

    def close_run(self, finished: bool, log: str = "") -> None:
        """Write the last version and print the summary; nothing if no job was planned. ``log``: the run's."""
        if not self._planned:
            return
        self.log = log
        status = "finished" if finished else "failed"
        self._write(status)
        print("\n" + summary(self.facts(status), str(self.file)), file=sys.stderr, flush=True)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


def _measured(job: Job) -> float:
    """Seconds of a finished job: by its benchmark file, which knows no waiting in a queue."""
    with contextlib.suppress(OSError, KeyError, ValueError, StopIteration, TypeError):
        # A job that is done again may not have written yet: what is older is of another run.
        if os.path.getmtime(job.benchmark) >= job.started - 1:
            with open(job.benchmark, newline="") as handle:
                return round(float(next(csv.DictReader(handle, delimiter="\t"))["s"]), 1)
    return round(time.time() - job.started, 1)


def skipped_cells(cells: Iterable[Any]) -> list[tuple[str, str]]:
    """(model on data set, reason) of the study's cells that do not apply."""
    return [(f"{cell.model} on {cell.dataset}", cell.reason) for cell in cells if not cell.runs]
