"""Brain tumour MR: Training and Testing with a folder per class; one base name in several folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.replicas import pictures
from tests.replicas.writing import litter, macosx, scaled, write

COUNTS = {
    "Training": {"glioma_tumor": 826, "meningioma_tumor": 822, "no_tumor": 395, "pituitary_tumor": 827},
    "Testing": {"glioma_tumor": 100, "meningioma_tumor": 115, "no_tumor": 105, "pituitary_tumor": 74},
}
#: Patterns of names and the number of images that take them here; the shares are not known.
NAMES = {
    "glioma_tumor": [("gg ({}).jpg", 826)],
    "meningioma_tumor": [
        ("m2 ({}).jpg", 150),
        ("m3 ({}).jpg", 240),
        ("m1({}).jpg", 100),
        ("m ({}).jpg", 332),
    ],
    "no_tumor": [("{}.jpg", 90), ("image({}).jpg", 305)],
    "pituitary_tumor": [("p ({}).jpg", 827)],
}


def make(root: Path, scale: float = 1.0, traps: bool = True) -> dict[str, dict[str, int]]:
    """Images per split and class."""
    written: dict[str, dict[str, int]] = {}
    for split, classes in COUNTS.items():
        for name, n in classes.items():
            for file, _ in zip(_files(split, name, traps), range(scaled(n, scale)), strict=False):
                path = root / split / name / file
                mode = "L" if file.endswith("7).jpg") else "RGB"
                write(path, pictures.jpeg(f"brain{split}{name}{file}", mode))
            written.setdefault(split, {})[name] = scaled(n, scale)
        if traps:
            litter(root / split / "no_tumor")
    if traps:
        macosx(root, ["Training/glioma_tumor/gg (1).jpg", "Testing/no_tumor/image(1).jpg"])
    return written


def _files(split: str, name: str, traps: bool) -> Iterator[str]:
    patterns = [("image({}).jpg", COUNTS[split][name])] if split == "Testing" else NAMES[name]
    for pattern, n in patterns:
        for number in range(1, n + 1):
            file = pattern.format(number)
            yield file.replace(".jpg", ".JPG") if traps and number == 5 else file
