"""One image of a recipe, and how a recipe's images become files: PNG pictures and labels.csv."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

COLUMNS = ("path", "label", "group", "volume", "mask_path", "boxes")

SLAB = 18.0  # mm; whole neighbouring slices that never straddle a group-wise split


@dataclass(frozen=True)
class Sample:
    """One labelled picture. ``name`` is unique in its set and becomes the file name."""

    name: str
    label: str  # name of the class
    picture: np.ndarray  # uint8, (H, W) or (H, W, 3)
    volume: str  # scan or slide it was cut from
    group: str | None = None
    mask: np.ndarray | None = None  # bool (H, W), true inside the labelled structure
    boxes: tuple[tuple[int, int, int, int], ...] = ()  # x0, y0, x1, y1, half open


def slab(index: int, spacing: float) -> int:
    """Number of the slab that slice ``index`` lies in; ``spacing`` in mm."""
    return int(index * spacing / SLAB)


def write_samples(samples: Iterable[Sample], out: Path) -> int:
    """Write pictures, masks and labels.csv (sorted by path) into ``out``; returns their number."""
    rows = []
    for sample in tqdm(samples, desc="images", unit="", file=sys.stderr, mininterval=10):
        path = f"images/{sample.name}.png"
        mask_path = "" if sample.mask is None else f"masks/{sample.name}.png"
        _save(out / path, sample.picture)
        if sample.mask is not None:
            _save(out / mask_path, sample.mask.astype(np.uint8) * 255)
        boxes = json.dumps([list(box) for box in sample.boxes]) if sample.boxes else ""
        rows.append((path, sample.label, sample.group or "", sample.volume, mask_path, boxes))
    with open(out / "labels.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(rows))
    return len(rows)


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=3)  # the default takes half of a recipe's time
