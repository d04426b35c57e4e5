"""Processes that inspect images, and threads for those that share one large file in memory.

A small process imports the decoders and forks the workers, so that they share its memory and none of the
caller's. A worker ends when the pipe to its caller does, so none is left behind by a caller that is killed.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from discern.data.adapters.rows import Row
from discern.data.pictures.images import Pictures
from discern.data.preparation.inspection import inspect_rows, pixel_digests
from discern.errors import DiscernError, problem

GRACE = 2.0  # seconds that workers have to end what they are at, once nobody wants it

#: One worker: what it is asked (the name of a function, rows) -> what it found, in the order of the rows.
Worker = Callable[[str, list[Row]], list[Any]]

TASKS: dict[str, Callable[[Pictures, list[Row]], list[Any]]] = {
    "inspect": inspect_rows,
    "pixels": pixel_digests,
}


class Crew:
    """Workers for the pictures of one data set: ``count`` processes, started when they are needed."""

    def __init__(self, pictures: Pictures, count: int):
        self.count = max(1, count)
        self.here: Worker = lambda task, rows: TASKS[task](pictures, rows)  # in the caller's thread
        self._pictures, self._processes = pictures, ExitStack()
        self._workers: list[Worker] = []

    def start(self) -> list[Worker]:
        """The processes. Returns at once: they take half a second until they can work."""
        if not self._workers:
            self._workers = self._processes.enter_context(processes(self._pictures, self.count))
        return self._workers

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()


@contextmanager
def processes(pictures: Pictures, count: int) -> Iterator[list[Worker]]:
    """``count`` workers, a process each; they end with the context."""
    asks = [Pipe(duplex=False) for _ in range(count)]
    answers = [Pipe(duplex=False) for _ in range(count)]
    theirs = [(ask[0], answer[1]) for ask, answer in zip(asks, answers, strict=True)]
    numbers = [str(end.fileno()) for pair in theirs for end in pair]
    source = str(Path(__file__).resolve().parents[3])  # scripts run where the package is not installed
    search = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    nursery = subprocess.Popen(
        [sys.executable, "-m", __name__, *numbers],
        pass_fds=[int(number) for number in numbers],
        env=os.environ | {"PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # an interrupt from the keyboard is the caller's to handle
    )
    ours = [(ask[1], answer[0]) for ask, answer in zip(asks, answers, strict=True)]
    try:
        for end in (end for pair in theirs for end in pair):
            end.close()
        yield [_Remote(ask, answer, pictures) for ask, answer in ours]
    finally:
        for end in (end for pair in ours for end in pair):
            end.close()
        try:
            nursery.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(nursery.pid, signal.SIGKILL)
            nursery.wait()


class _Remote:
    """The caller's end of a worker process."""

    def __init__(self, ask: Connection, answer: Connection, pictures: Pictures):
        self._ask, self._answer = ask, answer
        ask.send(pictures)

    def __call__(self, task: str, rows: list[Row]) -> list[Any]:
        try:
            # Plain tuples: rows cost more to pack than small pictures to hash.
            self._ask.send((task, [(row.image_id, row.path, row.mask_paths) for row in rows]))
            found, reason = self._answer.recv()
        except (EOFError, OSError) as error:
            raise problem(
                f"{rows[0].image_id} .. {rows[-1].image_id}",
                "a process that decoded one of these images ended without a word",
                repair="give the job more memory or fewer threads; an image that does it can be dropped",
            ) from error
        if reason:
            raise DiscernError(reason)
        result: list[Any] = found
        return result


def in_turn(
    workers: list[Worker], task: str, chunks: Iterator[list[Row]]
) -> Iterator[tuple[list[Row], list[Any]]]:
    """Every chunk with what was found in it, as they are finished.

    A chunk is taken when a worker is free, so chunks may be made, and sized, while others are worked on.
    """
    lock, finished = threading.Lock(), threading.Event()
    results: queue.Queue[tuple[list[Row], list[Any]] | BaseException | None] = queue.Queue(2 * len(workers))

    def serve(worker: Worker) -> None:
        try:
            while not finished.is_set():
                with lock:
                    rows = next(chunks, None)
                if rows is None:
                    break
                results.put((rows, worker(task, rows)))
        except BaseException as error:
            results.put(error)
        results.put(None)

    with ExitStack() as stack:
        stack.callback(finished.set)
        threads = [threading.Thread(target=serve, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                yield result


def _serve(ask: Connection, answer: Connection) -> None:
    try:
        pictures: Pictures = ask.recv()
        while True:
            task, sent = ask.recv()
            rows = [Row(image_id, path, "", mask_paths=masks) for image_id, path, masks in sent]
            try:
                found, reason = TASKS[task](pictures, rows), ""
            except DiscernError as error:
                found, reason = [], str(error)
            except Exception:
                found, reason = [], traceback.format_exc()
            answer.send((found, reason))
    except (EOFError, BrokenPipeError):  # nobody asks any more
        return


def main(numbers: list[int]) -> None:
    """Fork a worker for each pair of file descriptors, then only hold their memory."""
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    gc.freeze()  # or each worker would look through, and so copy, all that is imported
    for pair in pairs:
        if os.fork() == 0:
            for other in numbers:  # else nobody would see this worker's pipe, or another's, end
                if other not in pair:
                    os.close(other)
            _serve(Connection(pair[0], writable=False), Connection(pair[1], readable=False))
            os._exit(0)
    for number in numbers:
        os.close(number)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
