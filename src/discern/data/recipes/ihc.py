"""Epithelium against stroma in one stained section of colon, without colour or brightness.

The DAB stain (brown, epithelium) serves as the label and is then taken away: grey levels are
replaced by their rank, so that every picture has the same histogram, and the patch is turned freely.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from discern.data.recipes.geometry import Jitter, patch
from discern.data.recipes.samples import Sample

WINDOW = 48  # pixels of the section
STEP = 16
PIXELS = 96
INNER = 0.66  # of the window's side: stays inside the window whatever the turn
PER_CLASS = 175
BLUR = 2.0  # pixels, standard deviation
POSITIVE = 0.03  # DAB channel of rgb2hed
EMPTY = 0.9  # grey level of the glass
EPITHELIUM = 0.85  # more than this share of the window is positive
STROMA = 0.10  # less than this share is positive, and
MOST_EMPTY = 0.50  # less than this share is empty glass


def samples(sources: Path, options: dict[str, Any], seed: int) -> Iterator[Sample]:
    """Windows of scikit-image's ``ihc.png`` (installed with the library, so ``sources`` is unused)."""
    import skimage
    from skimage.color import rgb2gray, rgb2hed
    from skimage.io import imread

    # The file itself: skimage.data would ask a download helper.
    picture = imread(Path(skimage.__file__).parent / "data" / "ihc.png")[..., :3]
    grey = rgb2gray(picture)
    positive = gaussian_filter(rgb2hed(picture)[..., 2], BLUR) > POSITIVE
    rng = np.random.default_rng(seed)
    for label, corners in _windows(positive, grey > EMPTY).items():
        chosen = sorted(rng.choice(len(corners), PER_CLASS, replace=False))
        for row, column in (corners[i] for i in chosen):
            jitter = Jitter(turn=float(rng.uniform(0, 360)), mirror=bool(rng.random() < 0.5))
            window = grey[row : row + WINDOW, column : column + WINDOW]
            middle = (WINDOW - 1) / 2
            cut = patch(window, (1.0, 1.0), (middle, middle), WINDOW * INNER, PIXELS, jitter)
            yield Sample(
                name=f"{label}_ihc_y{row:03d}_x{column:03d}",
                label=label,
                picture=_ranks(cut),
                volume="ihc",
            )


def _windows(positive: np.ndarray, empty: np.ndarray) -> dict[str, list[tuple[int, int]]]:
    """Upper left corners (row, column) of the windows of each class."""
    found: dict[str, list[tuple[int, int]]] = {"epithelium": [], "stroma": []}
    height, width = positive.shape
    for row in range(0, height - WINDOW + 1, STEP):
        for column in range(0, width - WINDOW + 1, STEP):
            window = (slice(row, row + WINDOW), slice(column, column + WINDOW))
            share = positive[window].mean()
            if share > EPITHELIUM:
                found["epithelium"].append((row, column))
            elif share < STROMA and empty[window].mean() < MOST_EMPTY:
                found["stroma"].append((row, column))
    return found


def _ranks(grey: np.ndarray) -> np.ndarray:
    """Replace grey levels by their rank: every picture gets the same flat histogram."""
    order = np.argsort(grey, axis=None, kind="stable")
    ranks = np.empty(grey.size, dtype=np.uint8)
    ranks[order] = np.arange(grey.size) * 256 // grey.size
    return ranks.reshape(grey.shape)
