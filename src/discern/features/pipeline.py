"""Reading and encoding side by side: nobody waits while there is work, and memory stays bounded.

Threads suffice: decoding, resizing, hashing and the encoders' operations all release Python's lock.
Every picture is written where its batch lies, so that nothing is copied on the way to the encoder.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

#: Writes the picture of a row into the given array, float32 (C, H, W).
Read = Callable[[int, np.ndarray], object]


@dataclass(frozen=True)
class Crew:
    """Who works: threads that read, threads that encode one batch each, and how much may wait."""

    readers: int
    encoders: int
    waiting: int  # bytes of pictures that are read and not encoded


class Budget:
    """Bytes that several threads may use together; what is larger than all of it is let in alone."""

    def __init__(self, limit: int):
        self._limit, self._used = limit, 0
        self._freed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Wait until there is room for ``amount`` bytes, and hold them while inside."""
        with self._freed:
            self._freed.wait_for(lambda: not self._used or self._used + amount <= self._limit)
            self._used += amount
        try:
            yield
        finally:
            with self._freed:
                self._used -= amount
                self._freed.notify_all()


def encoded(
    parts: Sequence[range],
    read: Read,
    encode: Callable[[np.ndarray], np.ndarray],
    buffer: Callable[[], np.ndarray],
    crew: Crew,
) -> Iterator[tuple[range, np.ndarray]]:
    """Rows and features, float32 (len(rows), d), of every part, in the order of ``parts``.

    ``buffer`` makes an array for the largest part, float32 (B, C, H, W); as few are made as ``crew``
    demands, and used again. What ``read`` or ``encode`` raises is raised here.
    """
    upcoming = iter(parts)
    waiting: deque[tuple[range, np.ndarray, Future[np.ndarray]]] = deque()
    free = [buffer()]
    # One batch for each encoder, and one that is being read.
    count = max(crew.encoders + 1, crew.waiting // max(free[0].nbytes, 1))
    free += [buffer() for _ in range(min(count, len(parts)) - 1)]
    with ThreadPoolExecutor(crew.readers) as readers, ThreadPoolExecutor(crew.encoders) as encoders:

        def start(array: np.ndarray) -> None:
            rows = next(upcoming, None)
            if rows is None:
                return
            reads = [readers.submit(read, row, array[i]) for i, row in enumerate(rows)]
            waiting.append((rows, array, encoders.submit(finish, reads, array[: len(rows)])))

        def finish(reads: list[Future[object]], batch: np.ndarray) -> np.ndarray:
            for done in reads:
                done.result()
            return encode(batch)

        try:
            for array in free:
                start(array)
            while waiting:
                rows, array, done = waiting.popleft()
                features = done.result()
                start(array)
                yield rows, features
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            encoders.shutdown(wait=False, cancel_futures=True)
