"""Resized pictures kept for other models: one decode serves all that resize and crop alike.

A resized picture is far smaller than the decoded one and spares both the decode and the resize. All of
one data set and one way of resizing lie in one file, a record each: a digest of what it was made from
and of its pixels, then the pixels. A record that is not whole, or of another picture, is no record, so
jobs may write at the same time, be killed, and find the file gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import PIL

from discern.data.pictures.images import Pictures
from discern.encoders.describe import pad_colour
from discern.fingerprint import code_digest, digest
from discern.model_card import Preprocess, VolumePreprocess

log = logging.getLogger("discern")

DIGEST = 32  # bytes of SHA-256
SUFFIX = ".pictures"

#: Pictures with fewer pixels for each of the resized one are decoded in about the time a record takes.
WORTH = 4


class Resized:
    """The kept pictures of one data set, uint8 (3, h, w) each, by their place in the manifest."""

    def __init__(self, file: Path, rule: str, count: int, size: tuple[int, int]):
        """Open or create ``file`` for ``count`` pictures of ``size`` (h, w); OSError if it cannot be."""
        self._rule, self._shape = rule.encode(), (*size, 3)
        self._bytes = 3 * size[0] * size[1]
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        os.truncate(self._handle, count * (DIGEST + self._bytes))  # takes no disk until it is written
        os.utime(file)
        self.hits = 0

    def __enter__(self) -> Resized:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def get(self, place: int, sha256: str) -> np.ndarray | None:
        """The picture made from the file with this SHA-256, uint8 (3, h, w); None if it is not here."""
        size = DIGEST + self._bytes
        record = os.pread(self._handle, size, place * size)
        pixels = memoryview(record)[DIGEST:]
        if len(record) != size or record[:DIGEST] != self._digest(sha256, pixels):
            return None
        self.hits += 1
        return np.frombuffer(pixels, np.uint8).reshape(self._shape).transpose(2, 0, 1)

    def put(self, place: int, sha256: str, picture: np.ndarray) -> None:
        """Keep a picture, uint8 (3, h, w), made from the file with this SHA-256; a full disk is no error."""
        pixels = picture.transpose(1, 2, 0).tobytes()
        with contextlib.suppress(OSError):
            record = self._digest(sha256, pixels) + pixels
            os.pwrite(self._handle, record, place * len(record))

    def _digest(self, sha256: str, pixels: bytes | memoryview) -> bytes:
        found = hashlib.sha256(pixels)
        found.update(self._rule + sha256.encode())
        return found.digest()

    def worth(self, width: int, height: int) -> bool:
        """Whether a picture of this size is worth a record."""
        return 3 * width * height >= WORTH * self._bytes


def rule_of(p: Preprocess, store: Pictures) -> str:
    """Digest of all that a resized picture depends on beside its file."""
    geometry = p.model_dump(mode="json", exclude={"mean", "std", "scale", "stretch", "channels"})
    code = code_digest(
        Path(__file__).parents[1] / "encoders" / "preprocess.py", "discern.data.pictures.images"
    )
    fill = pad_colour(p) if p.resize == "pad" else None
    return digest([geometry, fill, store.decoding.model_dump(mode="json"), code, PIL.__version__])


@contextlib.contextmanager
def resized(
    folder: Path | str,
    limit: float,
    dataset: str,
    count: int,
    p: Preprocess | VolumePreprocess,
    store: Pictures,
) -> Iterator[Resized | None]:
    """The kept pictures of a data set for one way of resizing; None where there are none.

    ``limit`` is in bytes, for the files of the folder together: those used least recently are removed.
    """
    if not folder or isinstance(p, VolumePreprocess) or p.precision != "uint8":
        yield None
        return
    height, width = p.input_size
    need = count * (DIGEST + 3 * height * width)
    if not 0 < need <= limit:
        yield None
        return
    rule = rule_of(p, store)
    file = Path(folder) / f"{dataset}.{rule}.{count}{SUFFIX}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(file.parent):
            _make_room(file, limit - need)
            kept = Resized(file, rule, count, (height, width))
    except OSError as error:
        log.warning("resized pictures are not kept: %s", error)
        yield None
        return
    with kept:
        yield kept
    log.info("%d of %d pictures were found resized", kept.hits, count)


def _make_room(file: Path, room: float) -> None:
    """Remove the files used least recently until the others than ``file`` take at most ``room`` bytes."""
    others = {f: f.stat() for f in file.parent.glob(f"*{SUFFIX}") if f != file}
    taken = sum(s.st_size for s in others.values())
    for other, status in sorted(others.items(), key=lambda item: item[1].st_mtime_ns):
        if taken <= room:
            break
        other.unlink(missing_ok=True)  # a job that has it open goes on with it
        taken -= status.st_size


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One job at a time, as far as the file system knows locks."""
    with open(folder / ".lock", "w") as handle:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
