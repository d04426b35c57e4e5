"""Where the heat ought to lie: organ masks and boxes of printed words in the encoder's frame.

A saliency map alone is a picture; its hottest pixels compared with a marked region are a number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from discern.data.pictures.images import Pictures
from discern.encoders import preprocess
from discern.errors import problem
from discern.model_card import Preprocess

#: Share of the pixels that count as the hottest.
HOTTEST = 0.05


class TargetScore(NamedTuple):
    """How a map agrees with a marked region; the columns of the same name in the RISE table."""

    hottest_in_target: bool
    target_share: float
    target_area: float


def _mask_file(pictures: Pictures, path: str, size: tuple[int, int]) -> np.ndarray:
    mask = pictures.mask(path)
    if mask.shape != size[::-1]:
        seen, wanted = (f"{width} x {height}" for width, height in (mask.shape[::-1], size))
        raise problem(str(pictures.file(path)), f"the mask has {seen} pixels, its image has {wanted}")
    return mask


def _box_mask(boxes: list[list[int]], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size[::-1], dtype=bool)
    for x0, y0, x1, y1 in boxes:
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return mask


def target_in_frame(
    row: dict[str, Any], pictures: Pictures, size: tuple[int, int], settings: Preprocess
) -> np.ndarray | None:
    """Marked region of one manifest row as bool (h, w) in the encoder's frame, or None.

    ``size`` is (width, height) of the image. A mask file goes before boxes. None also where the crop
    leaves nothing of the region: no map could hit it. Raises DiscernError for an unreadable mask.
    """
    if row["mask_path"]:
        mask = _mask_file(pictures, row["mask_path"], size)
    elif row["boxes"]:
        mask = _box_mask(row["boxes"], size)
    else:
        return None
    framed = np.asarray(preprocess.apply_mask(mask, settings), dtype=bool)
    return framed if framed.any() else None


def score_target(saliency: np.ndarray, target: np.ndarray) -> TargetScore:
    """Compare a map (h, w) with a region bool (h, w); ties go to the upper left, so runs agree."""
    order = np.argsort(-saliency, axis=None, kind="stable")
    inside = target.ravel()[order]
    hottest = max(1, round(HOTTEST * saliency.size))
    return TargetScore(bool(inside[0]), float(inside[:hottest].mean()), float(target.mean()))
