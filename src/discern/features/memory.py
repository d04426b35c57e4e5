"""How many pictures fit: measured with a picture, on the processor or the GPU that will compute."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from discern.encoders.base import Encoder
from discern.free_memory import available, field
from discern.model_card import CPU_BATCH, GPU_BATCH

log = logging.getLogger("discern")

#: Largest batch of a GPU where the card leaves it open, beyond which it gains nothing; of a processor
#: whatever the card allows. Larger ones lose its caches, the first and the last leave readers or encoders
#: idle for longer, and there may be too few of them for all cores.
OPEN = {"cuda": GPU_BATCH, "cpu": CPU_BATCH}

#: Batches that a GPU has at once: one is computed while the other is copied.
IN_FLIGHT = 2

#: Shares of the free memory that batches may take: other jobs share a computer's, nobody a GPU's.
SHARE = {"cuda": 0.8, "cpu": 0.5}

#: Bytes of activations for a byte of input that hardly any network exceeds.
GUESS = 64

#: Where a processor's memory holds so many times that, no picture is encoded to measure what it takes.
PLENTY = 4

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Load:
    """What encoding takes, in bytes: once, and for each picture of a batch."""

    fixed: float
    each: float


def chosen_batch(
    encoder: Encoder, picture: np.ndarray, bound: int | str, workers: int, measure: bool = True
) -> int:
    """Pictures at once for each of ``workers``: the card's number, or fewer where memory is short.

    ``picture`` is one input, float32 (C, H, W). ``bound`` 'auto' leaves the number to the memory; on a
    processor it is at most 8. Without ``measure``, or where nothing can be measured, it is the bound.
    """
    kind = _kind(encoder)
    limit = OPEN[kind] if bound == "auto" else int(bound)
    limit = min(limit, OPEN[kind]) if kind == "cpu" else limit
    if not measure or limit == 1:
        return limit
    room = available() if kind == "cpu" else None
    plenty = Load(0, PLENTY * GUESS * picture.nbytes)
    if room is not None and fitting(limit, room * SHARE[kind], plenty, workers) == limit:
        return limit
    free, measured = (gpu_free, _gpu_load) if kind == "cuda" else (available, _cpu_load)
    size = limit
    for _ in range(2):  # the first call also takes what is taken once, the network's parameters from disk
        room, load = free(), measured(encoder, picture)
        if room is None or load is None:
            return limit
        size = fitting(limit, room * SHARE[kind], load, workers)
        if size == limit:
            return limit
    log.info("batches of %d instead of %d: memory is short", size, limit)
    return size


def fitting(limit: int, room: float, load: Load, workers: int) -> int:
    """The largest batch up to ``limit`` with which ``workers`` batches take ``room`` bytes; at least 1."""
    fit = (room / workers - load.fixed) / max(load.each, 1)
    return max(1, min(limit, int(fit)))


def _cpu_load(encoder: Encoder, picture: np.ndarray) -> Load | None:
    """By the peak of this process while one picture is encoded; None where the system tells none.

    Memory that the process keeps from before hides in it, so it is at least what a network should take.
    """
    try:
        CLEAR.write_text("5")  # the peak begins anew
    except OSError:
        return None
    before = field(STATUS, "VmRSS")
    encoder.encode(picture[None])
    peak = field(STATUS, "VmHWM")
    return None if before is None or peak is None else Load(0, max(peak - before, GUESS * picture.nbytes))


def _gpu_load(encoder: Encoder, picture: np.ndarray) -> Load | None:
    """By the allocator's peaks with two and with four pictures."""
    torch = sys.modules["torch"]
    peaks = []
    for n in (2, 4):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        encoder.encode(np.repeat(picture[None], n, axis=0))
        peaks.append(torch.cuda.max_memory_allocated() - before)
    each = max((peaks[1] - peaks[0]) / 2, picture.nbytes)
    return Load(max(0.0, peaks[0] - 2 * each), each)


def gpu_free() -> int | None:
    """Free bytes of the GPU with those that torch holds and does not use."""
    torch = sys.modules["torch"]
    held: int = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    free: int = torch.cuda.mem_get_info()[0]
    return free + held


def _kind(encoder: Encoder) -> str:
    return "cpu" if encoder.device == "cpu" else "cuda"
