"""Tiny valid pictures of random pixels, every one different, made fast enough for 30,000 files.

Pixels are noise, so that no two pictures are near-duplicates by chance.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zlib

import numpy as np
from PIL import Image

CHANNELS = {1: 0, 3: 2, 4: 6}  # number of channels -> colour type of PNG
SIDE = 8


def noise(seed: str, size: int) -> bytes:
    """``size`` bytes that depend on ``seed`` alone."""
    return hashlib.shake_128(seed.encode()).digest(size)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(seed: str, channels: int = 3, width: int = SIDE, height: int = SIDE) -> bytes:
    """A PNG of random pixels; the alpha of four channels is opaque."""
    row = width * channels
    pixels = bytearray(noise(seed, row * height))
    if channels == 4:
        pixels[3::4] = b"\xff" * (width * height)
    return _png(bytes(pixels), row, channels, width, height)


def mask(seed: str, width: int = SIDE, height: int = SIDE, empty: bool = False) -> bytes:
    """A grey PNG, black but for one white square that depends on ``seed``."""
    pixels = np.zeros((height, width), np.uint8)
    if not empty:
        x, y = (b % (n - 2) for b, n in zip(noise(seed, 2), (width, height), strict=True))
        pixels[y : y + 2, x : x + 2] = 255
    return _png(pixels.tobytes(), width, 1, width, height)


def _png(pixels: bytes, row: int, channels: int, width: int, height: int) -> bytes:
    lines = b"".join(b"\0" + pixels[i : i + row] for i in range(0, len(pixels), row))
    header = struct.pack(">IIBBBBB", width, height, 8, CHANNELS[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(lines, 1))
        + _chunk(b"IEND", b"")
    )


def jpeg(seed: str, mode: str = "RGB") -> bytes:
    """A JPEG (RGB or L) of random pixels."""
    shape = (SIDE, SIDE, 3) if mode == "RGB" else (SIDE, SIDE)
    pixels = np.frombuffer(noise(seed, math.prod(shape)), np.uint8).reshape(shape)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    return file.getvalue()
