"""Perceptual hashes: 64 bits that stay nearly equal when a picture is resized, recompressed or relit.

The hash is ``phash`` of the library ImageHash, of the picture shrunk to 32 x 32 grey pixels, as the library
does itself with a slower filter. ``perceptual_hashes`` evaluates it for many pictures at once, because the
library's fixed cost per call is half of the decoding of a small picture; one picture of each batch is hashed
by the library too, and where the two differ the library does them all.
"""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image
from scipy.fftpack import dct

SIDE = 32  # pixels; phash's own working size
FILTERED = 96  # pixels a side that at least are left to a filter
BLOCK = 64  # pictures that are transformed at once: what fits into a processor's cache
FLAT = 4  # grey levels; a picture whose shrunken copy spans fewer has no structure to hash


def shrink(image: Image.Image) -> Image.Image:
    """An RGB picture as 32 x 32 pixels, each about the average of an area."""
    width, height = image.size
    if width % SIDE == 0 and height % SIDE == 0:
        return image.reduce((width // SIDE, height // SIDE))
    # Plain averages of whole pixels are several times faster than a filter, but leave a rest at the edge:
    # they do a part of the way, and the filter the rest from the exact size.
    x, y = max(1, width // FILTERED), max(1, height // FILTERED)
    if x > 1 or y > 1:
        image = image.reduce((x, y))
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (0.0, 0.0, width / x, height / y))


class Strip:
    """Shrunken pictures one below the other, so that they become one grey array at once."""

    def __init__(self, room: int):
        self._canvas, self._filled = Image.new("RGB", (SIDE, SIDE * room)), 0

    def add(self, small: Image.Image) -> None:
        """One more; ``room`` is the most that there can be."""
        self._canvas.paste(small, (0, SIDE * self._filled))
        self._filled += 1

    def pixels(self) -> np.ndarray:
        """Luma of all that were added: uint8 (N, 32, 32)."""
        return np.asarray(self._canvas.convert("L")).reshape(-1, SIDE, SIDE)[: self._filled]


def flat(pixels: np.ndarray) -> np.ndarray:
    """Whether each of uint8 (N, 32, 32) is constant but for rounding: its hash would be noise. bool (N,)."""
    values = pixels.reshape(len(pixels), -1)
    result: np.ndarray = values.max(axis=1).astype(int) - values.min(axis=1) < FLAT
    return result


def perceptual_hashes(pixels: np.ndarray) -> np.ndarray:
    """``imagehash.phash`` of each of the shrunken pictures uint8 (N, 32, 32): uint64 (N,)."""
    if not len(pixels):
        return np.zeros(0, np.uint64)
    low = np.concatenate([_low(pixels[i : i + BLOCK]) for i in range(0, len(pixels), BLOCK)])
    ordered = np.sort(low, axis=1)
    bits = low > (ordered[:, 31:32] + ordered[:, 32:33]) / 2  # the median
    if not np.array_equal(bits[0], _by_the_library(pixels[0])):
        bits = np.stack([_by_the_library(one) for one in pixels])
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()


def _low(pixels: np.ndarray) -> np.ndarray:
    """Lowest frequencies of uint8 (N, 32, 32): float64 (N, 64)."""
    rows = dct(pixels, axis=1)[:, :8]  # the library transforms columns first and keeps 8 x 8 in the end
    return np.ascontiguousarray(dct(rows, axis=2)[:, :, :8]).reshape(-1, 64)


def _by_the_library(pixels: np.ndarray) -> np.ndarray:
    bits: np.ndarray = imagehash.phash(Image.fromarray(pixels)).hash.ravel()
    return bits
