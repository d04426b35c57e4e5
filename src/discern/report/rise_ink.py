"""Colours, letters and small marks of the RISE sheet, made with Pillow alone."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, GREY, PAPER = (24, 24, 27), (96, 96, 104), (255, 255, 255)
RIGHT, WRONG = (0, 122, 92), (200, 70, 0)  # told apart without red and green, and by shape

#: Nine equally spaced colours of the perceptually uniform map `inferno` (van der Walt & Smith, 2015).
INFERNO = np.array(
    [
        (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
        (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
    ],
    dtype=np.float64,
)  # fmt: skip

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def colours(level: np.ndarray) -> np.ndarray:
    """Levels 0..1 of any shape -> colours 0..255, float64 (..., 3)."""
    stops = np.linspace(0.0, 1.0, len(INFERNO))
    return np.stack([np.interp(level, stops, INFERNO[:, channel]) for channel in range(3)], axis=-1)


@cache
def font(size: int) -> Font:
    """Pillow's own font at ``size`` px; Pillow before 10.1 has one small size only."""
    try:
        return ImageFont.load_default(size=size)
    except TypeError:
        return ImageFont.load_default()


def plain(text: str) -> str:
    """Text in the letters that Pillow's font has: accents go, other signs become a question mark."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", "replace").decode()


def shorten(text: str, letters: Font, room: float, middle: bool = False) -> str:
    """Cut ``text`` to ``room`` px with three dots, at the end or in the middle."""
    text = plain(text)
    if letters.getlength(text) <= room:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = kept // 2 if middle else kept
        short = text[:head].rstrip() + "..." + (text[len(text) - (kept - head) :] if middle else "")
        if letters.getlength(short) <= room:
            return short
    return "..."


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
) -> float:
    """Write one line with its upper left corner at ``place``; returns where it ends (x in px)."""
    draw.text(place, plain(text), font=font(size), fill=colour)
    return place[0] + font(size).getlength(plain(text))


@cache
def mark(kind: Literal["right", "wrong", "arrow"], size: int) -> Image.Image:
    """A tick, a cross or an arrow in a square of ``size`` px: the font has none of them."""
    big = 8 * size  # drawn large and shrunk, as Pillow's lines have hard edges
    image = Image.new("RGB", (big, big), PAPER)
    draw = ImageDraw.Draw(image)

    def line(points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        draw.line([(x * big, y * big) for x, y in points], fill=colour, width=big // 8, joint="curve")

    if kind == "arrow":
        line([(0.0, 0.5), (0.95, 0.5)], GREY)
        line([(0.6, 0.2), (0.95, 0.5), (0.6, 0.8)], GREY)
    else:
        draw.ellipse([0, 0, big - 1, big - 1], fill=RIGHT if kind == "right" else WRONG)
    if kind == "right":
        line([(0.24, 0.52), (0.43, 0.72), (0.76, 0.3)], PAPER)
    elif kind == "wrong":
        line([(0.3, 0.3), (0.7, 0.7)], PAPER)
        line([(0.7, 0.3), (0.3, 0.7)], PAPER)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a bool (h, w) mask that touch its outside, one pixel thin."""
    padded = np.pad(mask, 1, mode="edge")  # the picture's border is no edge of the region
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
