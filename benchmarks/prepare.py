"""Preparing a data set against a bare decode loop: ``python -m benchmarks.prepare [--full]``.

Both read the same JPEG files with the same number of processes, in turn. The bare loop opens each with
Pillow and converts it to RGB; the preparation also checks, hashes and compares the images, and writes
manifest and audit. Small runs contain the start of the processes, about two seconds. Prints a Markdown
table; memory is the largest sum of resident memory of all processes, so what they share counts repeatedly.
"""

import argparse
import logging
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.side_by_side import Table, machine
from discern.contracts import write_json
from discern.data.preparation.manifest import prepare_dataset
from discern.dataset_card import DatasetCard

PROCESSES = os.cpu_count() or 1
ROUNDS = 3
QUICK = ((28_160, 64), (14_000, 224), (1_000, 1000))  # images, pixels a side
FULL = ((250_000, 64), (28_160, 224), (28_160, 450))
MAX_SECONDS = 120.0  # of one size, after which no further round begins


def card(n: int) -> DatasetCard:
    """The card of ``n`` pictures."""
    fields = {
        "name": "replica",
        "title": "Replica",
        "modality": "none",
        "source": {"kind": "manual", "page": "none", "place": "none"},
        "adapter": {"kind": "image_folder"},
        "classes": [{"name": "a"}, {"name": "b"}],
        "licence": "none",
        "expected_n": n,
    }
    return DatasetCard.model_validate(fields)


def write_pictures(root: Path, n: int, size: int) -> list[str]:
    """JPEGs of smooth noise, all different; their paths."""
    random = np.random.default_rng(0)
    files = []
    for i in range(n):
        file = root / "ab"[i % 2] / f"{i // 2000:03d}" / f"{i:06d}.jpg"
        if i % 2000 < 2:
            file.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (max(8, size // 32),) * 2 + (3,), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(file, quality=90)
        files.append(str(file))
    return files


def decode(files: list[str]) -> None:
    """The bare loop of one process."""
    for file in files:
        Image.open(file).convert("RGB")


def bare(files: list[str]) -> None:
    """The bare loop in all processes."""
    chunk = max(1, min(256, len(files) // (8 * PROCESSES)))
    pool = multiprocessing.get_context("fork").Pool(PROCESSES)  # the quickest to start
    pool.map(decode, [files[i : i + chunk] for i in range(0, len(files), chunk)], chunksize=1)
    pool.close()
    pool.join()


def prepare(folder: Path, n: int) -> None:
    """The whole preparation, with nothing known of any file."""
    places = [folder / name for name in ("fetched.json", "m.parquet", "a.json", "made", "inspected")]
    shutil.rmtree(places[-1], ignore_errors=True)
    prepare_dataset(card(n), *places, PROCESSES)


def cpu() -> float:
    """CPU seconds of this process and of those that have ended below it."""
    ours, theirs = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


def tree_mib() -> float:
    """Resident memory of this process and all below it."""
    parents, sizes = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                sizes[int(entry.name)] = int((entry / "statm").read_text().split()[1])
        except OSError:
            continue
    tree = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(sizes.get(pid, 0) for pid in tree) * resource.getpagesize() / 2**20


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """The largest sum that was met, in MiB, looked at five times a second; and CPU seconds of looking."""
    peak, finished = [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not finished.wait(0.2):
            peak[0] = max(peak[0], tree_mib())
            peak[1] = time.thread_time()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        finished.set()
        thread.join()


def timed(side: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the clock, and of CPU."""
    started, used = time.perf_counter(), cpu()
    side()
    return time.perf_counter() - started, cpu() - used


def measure(n: int, size: int) -> tuple[object, ...]:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_pictures(folder / "root", n, size)
        write_json(folder / "fetched.json", {"root": str(folder / "root")})
        decode(files[: n // 10])  # so that both sides find the files in memory
        clock, work, memory = [], [], 0.0
        started = time.perf_counter()
        while len(clock) < ROUNDS and (not clock or time.perf_counter() - started < MAX_SECONDS):
            peer = timed(lambda: bare(files))
            with peak_memory() as peak:
                ours = timed(lambda: prepare(folder, n))
            clock.append(ours[0] / peer[0])
            work.append((ours[1] - peak[1]) / peer[1])
            memory = max(memory, peak[0])
    medians = statistics.median(clock), statistics.median(work)
    return n, size, *(f"{value:.2f}" for value in medians), f"{memory:.0f}"


def tables(quick: bool, sizes: Sequence[tuple[int, int]] = QUICK) -> list[Table]:
    """One row per number and size of pictures."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    rows = [measure(n, size) for n, size in (sizes[:1] if quick else sizes)]
    logging.disable(level)
    heads = (
        "images",
        "pixels a side",
        "clock: ours / bare loop",
        "CPU: ours / bare loop",
        "memory, MiB",
    )
    return [
        Table(
            f"Preparing a data set, {PROCESSES} processes", "A bare loop decodes the same files.", heads, rows
        )
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the sizes of large data sets: half an hour")
    arguments = parser.parse_args()
    print(machine(), *tables(False, FULL if arguments.full else QUICK), sep="\n\n")
