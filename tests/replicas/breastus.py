"""BUSI: masks beside the images, some images with several, some with four channels."""

from __future__ import annotations

from pathlib import Path

from tests.replicas import pictures
from tests.replicas.writing import litter, scaled, write

TOP = "Dataset_BUSI_with_GT"
COUNTS = {"benign": 437, "malignant": 210, "normal": 133}
MASK_1 = {
    "benign": {4, 25, 54, 58, 83, 92, 93, 98, 100, 163, 173, 181, 195, 315, 346, 424},
    "malignant": {53},
    "normal": set[int](),
}
MASK_2 = {"benign": {195}, "malignant": set[int](), "normal": set[int]()}
MASKS = 798


def make(root: Path, scale: float = 1.0, traps: bool = True) -> dict[str, int]:
    """Images per class, under the folder TOP."""
    for name, n in COUNTS.items():
        for number in range(1, scaled(n, scale) + 1):
            stem = f"{name} ({number})"
            folder = root / TOP / name
            upper = traps and number == 7
            channels = 4 if traps and number % 50 == 1 else 3
            write(folder / f"{stem}{'.PNG' if upper else '.png'}", pictures.png(f"busi{stem}", channels))
            for mask in masks(name, number):
                write(folder / mask, pictures.mask(mask, empty=name == "normal"))
        if traps:
            litter(root / TOP / name)
    return {name: scaled(n, scale) for name, n in COUNTS.items()}


def masks(name: str, number: int) -> list[str]:
    """File names of the masks of one image."""
    suffixes = ["_mask"]
    suffixes += ["_mask_1"] if number in MASK_1[name] else []
    suffixes += ["_mask_2"] if number in MASK_2[name] else []
    return [f"{name} ({number}){suffix}.png" for suffix in suffixes]
