"""The summary of a run, on one screen."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any

#: Lines of a list that are shown; the file has all.
SHOWN = 8
WIDTH = 110


def duration(seconds: float) -> str:
    """Seconds in the two units that matter: '45 s', '12 min', '3 h 20 min', '2 d 4 h'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def summary(facts: dict[str, Any], file: str) -> str:
    """What was done, failed, not begun and skipped, and the slowest jobs. ``facts``: of ``RunRecord``."""
    jobs = facts["jobs"]
    head = f"study {facts['study']}: {facts['status']} after {duration(facts['seconds'])}"
    if facts["seconds_left"] is not None:
        head += f", about {duration(facts['seconds_left'])} left"
    counts = [f"{jobs['done']} of {jobs['total']} jobs done"]
    counts += [f"{jobs['running']} running"] if jobs["running"] else []
    counts += [f"{jobs['retried']} tried again"] if jobs["retried"] else []
    lines = [head, "  " + ", ".join(counts)]
    lines += _part("failed", [f"{_name(job)}: {job.get('reason', '')}" for job in facts["failed"]])
    if facts["not_started"]:
        waiting = ", ".join(f"{n} {rule}" for rule, n in sorted(facts["not_started"].items()))
        lines += _part(f"not begun ({sum(facts['not_started'].values())})", [waiting], count=False)
    reasons = Counter(item["reason"] for item in facts["skipped"])
    lines += _part(f"skipped ({reasons.total()})", [f"{n} x {why}" for why, n in reasons.items()], False)
    slowest = [f"{duration(job.get('seconds', 0))} {_name(job)}" for job in facts["slowest"]]
    lines += _part("slowest", slowest, count=False)
    logs = [job["log"] for job in facts["failed"] if job.get("log")]
    lines += _part("logs of what failed", logs, count=False)
    return "\n".join([*lines, f"  all of this: {file}"])


def _part(title: str, lines: list[str], count: bool = True) -> list[str]:
    if not lines:
        return []
    more = [f"    ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    title = f"{title} ({len(lines)})" if count else title
    shown = [part for line in lines[:SHOWN] for part in _wrapped(line)]
    return [f"  {title}:", *shown, *more]


def _wrapped(line: str) -> list[str]:
    """A line in at most two of the screen."""
    return textwrap.wrap(
        line,
        WIDTH,
        initial_indent="    ",
        subsequent_indent="      ",
        max_lines=2,
        placeholder=" …",
        drop_whitespace=True,
        break_on_hyphens=False,
    )


def _name(job: dict[str, Any]) -> str:
    return " ".join([job["rule"], *job.get("wildcards", {}).values()])
