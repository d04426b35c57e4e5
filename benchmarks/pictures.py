"""Pictures, manifest and cards of the benchmarks of extraction."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from discern.contracts import MANIFEST, write_table
from discern.encoders.record import write_record
from discern.files import sha256_file

#: Of ImageNet, as most of the models take them.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
#: Of CLIP.
CLIP = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}


#: Pictures of one size that differ; the rest are copies of these files.
DIFFERENT = 24


def pictures(folder: Path, sides: list[int], suffix: str = ".jpg") -> list[Path]:
    """Square pictures with the detail of photographs (0.4 bytes a pixel as JPEG), one for each side."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    made: dict[int, list[Path]] = {}
    for i, side in enumerate(sides):
        alike = made.setdefault(side, [])
        if len(alike) == DIFFERENT:
            files.append(folder / f"{i:05d}{suffix}")
            shutil.copyfile(alike[i % DIFFERENT], files[-1])
            continue
        coarse = rng.integers(0, 256, (side // 8 + 1, side // 8 + 1, 3), dtype=np.uint8)
        fine = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), np.float32)
        noisy = fine + rng.normal(0, 6, fine.shape).astype(np.float32)
        files.append(folder / f"{i:05d}{suffix}")
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(files[-1], quality=90)
        alike.append(files[-1])
    return files


def manifest(folder: Path, files: list[Path]) -> Path:
    """A manifest of these pictures, with the record of no weights beside it."""
    n = len(files)
    sizes = [Image.open(f).size for f in files]
    columns = {name: [None] * n for name in MANIFEST.columns} | {
        "image_id": [f.stem for f in files],
        "path": [f.name for f in files],
        "sha256": [sha256_file(f) for f in files],
        "label": [0] * n,
        "label_name": ["none"] * n,
        "width": [w for w, _ in sizes],
        "height": [h for _, h in sizes],
        "mode": ["RGB"] * n,
    }
    about = {"dataset": folder.name, "root": str(files[0].parent), "made": "", "decoding": {}}
    write_table(MANIFEST, folder / "manifest.parquet", columns, about)
    write_record("none", [], folder / "weights.json")
    return folder / "manifest.parquet"


def spec(name: str, route: str, arch: str, d: int, **preprocess: Any) -> dict[str, Any]:
    """What ``ModelCard.extraction_spec`` gives, for random weights and pictures of 224 px."""
    geometry = {"resize": "shortest", "size": 224, "crop": 224, "mean": MEAN, "std": STD}
    return {
        "name": name,
        "loader": {"route": route, "arch": arch, "keys": "random", "seed": 0},
        "preprocess": geometry | preprocess,
        "feature": {"name": "feature", "d": d},
    }
