"""Batches that are halved when memory runs out."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from discern.encoders.base import Encoder
from discern.errors import problem
from discern.free_memory import out_of_memory

log = logging.getLogger("discern")

T = TypeVar("T")


class Halving:
    """Work in batches that are halved when memory runs out, and stay small from then on.

    ``one`` and ``several`` say what a batch holds in messages; ``forget`` drops what is kept between
    batches. Safe for several threads; once memory ran out they work in turn.
    """

    def __init__(
        self, size: int, device: str, one: str, several: str, forget: Callable[[], None] = lambda: None
    ):
        self.size = size
        self._device, self._one, self._several, self._forget = device, one, several, forget
        self._tight, self._inside, self._left = False, 0, threading.Condition()

    def over(self, start: int, stop: int, work: Callable[[int, int], T]) -> list[T]:
        """``work`` on start .. stop - 1 in parts of at most ``size``: its results, in order.

        DiscernError where memory holds not even one.
        """
        parts: list[T] = []
        while start < stop:
            end, reason = min(start + self.size, stop), ""
            try:
                with self._place() as alone:
                    parts.append(work(start, end))
            except Exception as error:  # torch, ONNX Runtime and NumPy each have their own
                if not out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0] if str(error) else "no figure given"
            # Outside the handler: while the exception lives, so do the tensors of its frames.
            if reason:
                self._shrink(end - start, alone, reason)
            else:
                start = end
        return parts

    @contextmanager
    def _place(self) -> Iterator[bool]:
        """Whether nobody else works while inside: so once memory ran out."""
        with self._left:
            alone = self._tight
            self._left.wait_for(lambda: not alone or not self._inside)
            self._inside += 1
        try:
            yield alone
        finally:
            with self._left:
                self._inside -= 1
                self._left.notify_all()

    def _shrink(self, tried: int, alone: bool, reason: str) -> None:
        self._tight = True
        self._forget()
        release()
        if tried == 1 and not alone:  # another thread's batch may have filled the memory
            return
        if tried == 1:
            raise problem(
                f"device {self._device}",
                f"not even one {self._one} fits into memory ({reason})",
                repair="run this model on a device with more memory, or with device cpu",
            )
        self.size = min(self.size, tried // 2)
        log.warning(
            "out of memory with %d %s (%s); going on with %d", tried, self._several, reason, self.size
        )


class Batches(Halving):
    """Encodes pictures in batches that fit."""

    def __init__(self, encoder: Encoder, batch_size: int):
        size = " x ".join(map(str, encoder.input_size))
        super().__init__(batch_size, encoder.device, f"picture of {size} px", "pictures")
        self._encoder = encoder

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """float32 (B, C, H, W) -> float32 (B, d)."""
        return self.through(self._encoder.encode, pictures)

    def through(self, encode: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray) -> np.ndarray:
        """The same by another function of the encoder."""
        parts = self.over(0, len(pictures), lambda start, stop: encode(pictures[start:stop]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def release() -> None:
    """Give cached blocks of the GPU back, which a smaller batch would not reuse."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
