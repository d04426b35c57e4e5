"""From a row of the manifest to the encoder's input: each file is read once, checked, decoded, resized."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from discern.data.pictures.images import SUFFIXES, Pictures, decode
from discern.data.pictures.volumes import open_volume
from discern.encoders import volumes
from discern.encoders.preprocess import framed, scaled
from discern.errors import problem
from discern.features.pipeline import Budget
from discern.features.resized import Resized
from discern.model_card import Preprocess, VolumePreprocess

#: Files up to this size are read whole, hashed and decoded from memory.
WHOLE = 256 * 2**20

#: Bytes that the pictures being decoded may take together: a few huge ones wait for each other, and
#: small ones pass by.
DECODING = 2 * 2**30
BYTES_PER_PIXEL = 8  # of Pillow: four as decoded, and as much for one more step

#: The authors' own transform of an RGB picture to float32 (C, H, W).
Transform = Callable[[Image.Image], np.ndarray]


class Reader:
    """Makes the encoder's input of one row: float32 (C, H, W), or (1, D, H, W) of a volume.

    Rows have image_id, path, sha256, width and height. Raises DiscernError naming the image that has
    changed since the manifest, or does not decode. Safe for threads.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        store: Pictures,
        p: Preprocess | VolumePreprocess,
        official: Transform | None = None,
        kept: Resized | None = None,
    ):
        self._rows, self._store, self._p = rows, store, p
        self._official, self._kept = official, None if official else kept
        self._decoding = Budget(DECODING)

    @property
    def shares(self) -> bool:
        """Whether pictures are kept for, and found by, other models."""
        return self._kept is not None

    def __call__(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """The input of row ``index``, written into ``out`` where that is given."""
        row = self._rows[index]
        if isinstance(self._p, VolumePreprocess):
            voxels, affine = open_volume(self._store.file(row["path"]))
            self._check(row, self._store.sha256(row["path"]))
            return _written(volumes.apply(voxels, affine, self._p), out)
        width, height = row["width"] or 0, row["height"] or 0
        kept = self._kept if self._kept is not None and self._kept.worth(width, height) else None
        data = self._checked_bytes(row)
        if kept is not None and (found := kept.get(index, row["sha256"])) is not None:
            return scaled(found, self._p, out)
        with self._decoding.take(width * height * BYTES_PER_PIXEL):
            image = self._picture(row, data)
            if self._official is not None:
                return _written(self._official(image), out)
            pixels = framed(image, self._p)
            del image
        if kept is not None:
            kept.put(index, row["sha256"], pixels)
        return scaled(pixels, self._p, out)

    def _picture(self, row: dict[str, Any], data: bytes | None) -> Image.Image:
        if data is None:
            return self._store.open(row["path"])
        return decode(self._store.file(row["path"]), self._store.decoding, data)[0]

    def _checked_bytes(self, row: dict[str, Any]) -> bytes | None:
        """All bytes of a row's file, where they are what is decoded; either way it is unchanged."""
        file = self._store.file(row["path"])
        try:
            whole = "#" not in file.name and file.suffix.lower() in SUFFIXES and file.stat().st_size <= WHOLE
            data = file.read_bytes() if whole else None
            found = self._store.sha256(row["path"]) if data is None else hashlib.sha256(data).hexdigest()
        except OSError:
            self._store.open(row["path"])  # has a message for a file that has gone, or cannot be read
            raise
        self._check(row, found)
        return data

    def _check(self, row: dict[str, Any], sha256: str) -> None:
        if sha256 != row["sha256"]:
            raise problem(
                str(self._store.file(row["path"])),
                f"image '{row['image_id']}' has changed since the manifest was made",
                repair="restore the file, or delete the manifest and prepare the data set again",
            )


def _written(picture: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """``picture`` in ``out``; DiscernError if the two differ in shape."""
    if out is None:
        return picture
    if picture.shape != out.shape:
        raise problem(
            "preprocess", f"one picture becomes {picture.shape}, the first of the data set {out.shape}"
        )
    out[...] = picture
    return out
