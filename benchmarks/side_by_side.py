"""Two ways of doing the same thing, timed in turn in one process; tables of the ratios.

Machines are noisy and differ: nothing but ratios of one interleaved run is kept, with the machine that
gave them. ``CPU`` sums the time of all threads of this process; ``wall`` is for sides that run in
processes of their own.
"""

from __future__ import annotations

import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
CLOCKS = {"CPU": time.process_time, "wall": time.perf_counter}


class Ratio(NamedTuple):
    """Time of the peer / time of ours, over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2g} ({self.low:.2g} to {self.high:.2g})"


@dataclass(frozen=True)
class Table:
    """What a section prints: a title, one sentence of explanation, column heads and rows of text."""

    title: str
    about: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __str__(self) -> str:
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        body = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
        return f"### {self.title}\n\n{self.about}\n\n{body}\n"


def ratio(
    peer: Callable[[], object], ours: Callable[[], object], rounds: int = 3, clock: str = "CPU"
) -> Ratio:
    """Run the two in turn ``rounds`` times; the first run of each is the caller's to warm up."""
    now = CLOCKS[clock]
    found = []
    for _ in range(rounds):
        seconds = []
        for side in (peer, ours):
            started = now()
            side()
            seconds.append(now() - started)
        found.append(seconds[0] / seconds[1])
    return Ratio(statistics.median(found), min(found), max(found))


def machine() -> str:
    """What ran: day, processor, cores, memory, Python."""
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    day = datetime.now(UTC).date().isoformat()
    return f"{day}, {processor()}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def replace_section(name: str, tables: Sequence[Table], page: Path = PAGE) -> None:
    """Write tables and machine between ``<!-- name -->`` and ``<!-- /name -->`` of a Markdown page."""
    text = page.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise SystemExit(f"{page}: has no section between {start.strip()} and {end}")
    body = "\n".join(map(str, tables)) + f"\n{machine()}\n\n"
    pattern = re.escape(start) + ".*?" + re.escape(end)
    page.write_text(re.sub(pattern, lambda _: start + body + end, text, flags=re.S), encoding="utf-8")
