"""Patches with jitter: one resampling that shifts, turns, zooms and mirrors.

Jitter keeps a set from being solved by raw pixels: without it neighbouring slices let them reach
93 % (organs) and 100 % (planes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates


@dataclass(frozen=True)
class Jitter:
    """How a patch departs from its nominal frame."""

    shift: tuple[float, float] = (0.0, 0.0)  # rows, columns, as a share of the patch's side
    turn: float = 0.0  # degrees
    zoom: float = 1.0  # above 1: structures appear larger
    mirror: bool = False


def draw_jitter(rng: np.random.Generator, shift: float, turn: float, zoom: float) -> Jitter:
    """Draw uniformly within +-shift (share of the side), +-turn (degrees), 1 +- zoom; mirror half."""
    down, right = rng.uniform(-shift, shift, 2)
    return Jitter(
        shift=(float(down), float(right)),
        turn=float(rng.uniform(-turn, turn)),
        zoom=float(rng.uniform(1 - zoom, 1 + zoom)),
        mirror=bool(rng.random() < 0.5),
    )


def patch(
    picture: np.ndarray,
    spacing: tuple[float, float],
    centre: tuple[float, float],
    side: float,
    pixels: int,
    jitter: Jitter | None = None,
    nearest: bool = False,
) -> np.ndarray:
    """Square of ``side`` mm around ``centre`` (row, column), resampled to (pixels, pixels).

    Args:
        picture: (H, W), any numeric type; outside it is zero.
        spacing: row and column spacing in mm.
        nearest: for masks; otherwise linear.
    """
    jitter = jitter or Jitter()
    steps = ((np.arange(pixels) + 0.5) / pixels - 0.5) * side / jitter.zoom
    rows, columns = np.meshgrid(steps, -steps if jitter.mirror else steps, indexing="ij")
    angle = np.deg2rad(jitter.turn)
    cosine, sine = np.cos(angle), np.sin(angle)
    down = cosine * rows - sine * columns + jitter.shift[0] * side
    right = sine * rows + cosine * columns + jitter.shift[1] * side
    places = np.stack([centre[0] + down / spacing[0], centre[1] + right / spacing[1]])
    # Only the part that is looked at: converting whole slices would take most of the time.
    first = np.clip(np.floor(places.min(axis=(1, 2))).astype(int), 0, np.array(picture.shape) - 1)
    last = np.clip(np.ceil(places.max(axis=(1, 2))).astype(int) + 1, 1, picture.shape)
    part = picture[first[0] : last[0], first[1] : last[1]].astype(np.float32)
    places -= first[:, None, None]
    order = 0 if nearest else 1
    return map_coordinates(part, places, order=order, mode="grid-constant", cval=0.0, prefilter=False)
