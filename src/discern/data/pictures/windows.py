"""From values of any range to 8-bit grey: which values become black and white is the card's ``window``.

Everything is done in one order: stored values, modality transform (rescale), window, inversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from discern.decoding_card import Level, Range, Window
from discern.errors import DiscernError

Array = np.ndarray[Any, np.dtype[Any]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

#: From values to 0..1, elementwise; what lies outside is clipped afterwards.
Curve = Callable[[Array], Array]

#: Named windows in Hounsfield units: centre and width, as viewers commonly preset them (docs/decoding.md).
NAMED = {
    "ct_abdomen": Level(center=50, width=400),
    "ct_bone": Level(center=400, width=1800),
    "ct_brain": Level(center=40, width=80),
    "ct_liver": Level(center=30, width=150),
    "ct_lung": Level(center=-600, width=1500),
    "ct_mediastinum": Level(center=50, width=350),
    "ct_soft_tissue": Level(center=40, width=400),
}

#: Percentiles of ``window: percentile``.
PERCENTILES = (0.5, 99.5)

#: Windows that depend on the values of the picture, so that a constant one holds nothing.
OF_THE_PICTURE = ("min_max", "percentile", "file")

#: Whole numbers of at most this many bytes are windowed by a table of all values that occur.
TABLE_BYTES = 2


def identity(values: Array) -> Array:
    """The modality transform of a file that names none."""
    return values


@dataclass(frozen=True)
class Stored:
    """The values of one picture as its file holds them, and what the file says of them.

    ``values`` is (H, W) or (H, W, 3); colours share one window. ``limits`` is the lowest and highest
    value that the stored type can hold, None for floats. ``modality`` maps stored values to those that
    windows are given in, ``header`` is the window that the file names. ``padding``: stored values, first
    and last, that are no part of the picture.
    """

    values: Array
    limits: tuple[int, int] | None
    modality: Curve = identity
    header: Curve | None = None
    inverted: bool = False  # the lowest value is white
    padding: tuple[float, float] | None = None


def eight_bit(stored: Stored, window: Window) -> Bytes:
    """Values windowed to 0..255, rounded; same shape. Padding and values that are not finite become 0.

    Raises DiscernError for a window that the stored type does not have.
    """
    values = stored.values
    if values.dtype.kind in "iu" and values.dtype.itemsize <= TABLE_BYTES:
        low, high = int(values.min()), int(values.max())
        index = np.subtract(values, low, dtype=np.int32)
        occurring = np.arange(low, high + 1)
        counts = np.bincount(index.ravel(), minlength=len(occurring))
        table: Bytes = _grey(stored, window, occurring, counts)[index]
        return table
    return _grey(stored, window, values, None)


def _grey(stored: Stored, window: Window, levels: Array, counts: Array | None) -> Bytes:
    """8-bit grey of ``levels``, of which ``counts`` says how often each occurs (None: once)."""
    units = stored.modality(levels.astype(np.float64))
    known = np.isfinite(units)
    if stored.padding is not None:
        first, last = stored.padding
        known &= ~((levels >= first) & (levels <= last))
    if not known.any():
        return np.zeros(levels.shape, np.uint8)
    if window == "file" and stored.header is not None:
        curve = stored.header
    else:
        there = known if counts is None else known & (counts > 0)
        seen, times = units[there], None if counts is None else counts[there]
        if window in OF_THE_PICTURE and (seen.size == 0 or seen.min() == seen.max()):
            return np.zeros(levels.shape, np.uint8)
        curve = straight(*_ends(window, stored, seen, times))
    share = np.clip(curve(np.where(known, units, 0.0)), 0.0, 1.0)
    grey = np.round(255 * (1 - share if stored.inverted else share)).astype(np.uint8)
    grey[~known] = 0
    return grey


def straight(low: float, high: float) -> Curve:
    """The straight line from 0 at ``low`` to 1 at ``high``; if they are equal, 0 up to them and 1 above."""
    if low < high:
        return lambda values: (values - low) / (high - low)
    return lambda values: (values > high).astype(np.float64)


def linear(center: float, width: float) -> tuple[float, float]:
    """Ends of DICOM's LINEAR (PS3.3 C.11.2.1.2.1), which counts ``width`` whole numbers; at least one."""
    half = (max(width, 1.0) - 1) / 2
    return center - 0.5 - half, center - 0.5 + half


def linear_exact(center: float, width: float) -> tuple[float, float]:
    """Ends of DICOM's LINEAR_EXACT (PS3.3 C.11.2.1.3.2)."""
    return center - width / 2, center + width / 2


def sigmoid(center: float, width: float) -> Curve:
    """DICOM PS3.3 C.11.2.1.3.1, SIGMOID."""
    return lambda values: 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))


def _ends(window: Window, stored: Stored, seen: Array, counts: Array | None) -> tuple[float, float]:
    """Values that become black and white; ``seen`` are those of the picture, occurring ``counts`` times."""
    if isinstance(window, Range):
        return window.low, window.high
    if isinstance(window, Level) or window in NAMED:
        level = window if isinstance(window, Level) else NAMED[window]
        ends = linear_exact if stored.values.dtype.kind == "f" else linear
        return ends(level.center, level.width)
    if window == "full_range":
        return _full_range(stored)
    if window == "percentile":
        return _percentiles(seen, counts)
    return float(seen.min()), float(seen.max())  # min_max, and `file` where the file names no window


def _full_range(stored: Stored) -> tuple[float, float]:
    if stored.limits is None:
        raise DiscernError("window full_range: floats have no full range; name {low: ..., high: ...}")
    ends = stored.modality(np.asarray(stored.limits, dtype=np.float64))
    return float(ends.min()), float(ends.max())


def _percentiles(seen: Array, counts: Array | None) -> tuple[float, float]:
    """Percentiles with straight lines between the ranks, as numpy.percentile has them."""
    if counts is None:
        low, high = np.percentile(seen, PERCENTILES)
        return float(low), float(high)
    order = np.argsort(seen)
    ordered, upto = seen[order], np.cumsum(counts[order])

    def at(percentile: float) -> float:
        rank = percentile / 100 * (upto[-1] - 1)
        below = int(rank)
        first, second = (
            ordered[np.searchsorted(upto, min(r, upto[-1] - 1), side="right")] for r in (below, below + 1)
        )
        return float(first + (second - first) * (rank - below))

    return at(PERCENTILES[0]), at(PERCENTILES[1])
