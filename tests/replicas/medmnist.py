"""Archives of MedMNIST: arrays of three splits; the one of 28 pixels has no size in its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.replicas.pictures import noise
from tests.replicas.writing import scaled

#: Images per split and class in order of the labels; whether they are coloured.
SETS: dict[str, tuple[dict[str, list[int]], bool]] = {
    "pneumoniamnist": ({"train": [1214, 3494], "val": [135, 389], "test": [234, 390]}, False),
    "breastmnist": ({"train": [147, 399], "val": [21, 57], "test": [42, 114]}, False),
    "dermamnist": (
        {
            "train": [228, 359, 769, 80, 779, 4693, 99],
            "val": [33, 52, 110, 12, 111, 671, 14],
            "test": [66, 103, 220, 23, 223, 1341, 29],
        },
        True,
    ),
    "retinamnist": (
        {"train": [486, 128, 206, 194, 66], "val": [54, 12, 28, 20, 6], "test": [174, 46, 92, 68, 20]},
        True,
    ),
}


def make(root: Path, name: str, size: int = 224, scale: float = 1.0, side: int = 8) -> dict[str, list[int]]:
    """Images per split and class of one archive; ``side``: pixels that its images really have here."""
    splits, coloured = SETS[name]
    arrays, written = {}, {}
    for split, counts in splits.items():
        counts = [scaled(n, scale) for n in counts]
        labels = np.repeat(np.arange(len(counts)), counts)
        labels = labels[np.argsort((np.arange(len(labels)) * 7919) % len(labels), kind="stable")]
        shape = (len(labels), side, side, 3) if coloured else (len(labels), side, side)
        pixels = np.frombuffer(noise(f"{name}{split}", int(np.prod(shape))), np.uint8)
        arrays[f"{split}_images"] = pixels.reshape(shape)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)[:, None]
        written[split] = counts
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / f"{name}{'' if size == 28 else f'_{size}'}.npz", **arrays)
    return written
