"""Batches that fit: halved when memory runs out, chosen beforehand by what one picture takes."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from discern.encoders.base import Encoder
from discern.errors import problem

log = logging.getLogger("discern")


class Batches:
    """Encodes in batches that shrink when memory runs out, and stay small from then on.

    Safe for several threads; once memory ran out they encode in turn.
    """

    def __init__(self, encoder: Encoder, batch_size: int):
        self._encoder, self.size = encoder, batch_size
        self._tight, self._inside, self._left = False, 0, threading.Condition()

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """float32 (B, C, H, W) -> float32 (B, d)."""
        return self.through(self._encoder.encode, pictures)

    def through(self, encode: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray) -> np.ndarray:
        """The same by another function of the encoder."""
        parts: list[np.ndarray] = []
        start = 0
        while start < len(pictures):
            part = pictures[start : start + self.size]
            reason = ""
            try:
                with self._place() as alone:
                    parts.append(encode(part))
                start += len(part)
            except Exception as error:  # torch, ONNX Runtime and NumPy each have their own
                if not out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0] if str(error) else "no figure given"
            # Outside the handler: while the exception lives, so do the tensors of its frames.
            if reason:
                self._shrink(len(part), alone, reason)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @contextmanager
    def _place(self) -> Iterator[bool]:
        """Whether nobody else encodes while inside: so once memory ran out."""
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
        release()
        if tried == 1 and not alone:  # another thread's batch may have filled the memory
            return
        if tried == 1:
            size = " x ".join(map(str, self._encoder.input_size))
            raise problem(
                f"device {self._encoder.device}",
                f"not even one picture of {size} px fits into memory ({reason})",
                repair="run this model on a device with more memory, or with device cpu",
            )
        self.size = min(self.size, tried // 2)
        log.warning("out of memory with %d pictures (%s); going on with %d", tried, reason, self.size)


def out_of_memory(error: Exception) -> bool:
    """Whether an exception of any library says that memory ran out."""
    text = str(error).lower()
    # "illegal memory access" is a broken kernel, which a smaller batch does not mend.
    full = ("memory" in text or "alloc" in text) and "illegal" not in text
    return isinstance(error, MemoryError) or full


def release() -> None:
    """Give cached blocks of the GPU back, which a smaller batch would not reuse."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
