"""Planted pictures with their manifest, and encoders with random weights."""

import hashlib

import numpy as np
from PIL import Image

from discern.contracts import MANIFEST, read_table, write_table
from discern.encoders.record import write_record

N, SIZE = 23, 8
PIXELS = {
    "name": "thumbnail",
    "loader": {"route": "pixels"},
    "preprocess": {"resize": "squash", "size": SIZE, "channels": "grey", "interpolation": "box"},
    "feature": {"name": "pixels", "d": SIZE * SIZE},
}


NETWORK = {
    "name": "random",
    "loader": {"route": "timm", "arch": "resnet10t", "keys": "random", "seed": 0},
    "preprocess": {"resize": "shortest", "size": 40, "crop": 32, "mean": [0.5] * 3, "std": [0.2] * 3},
    "feature": {"name": "pooled", "d": 512},
}
TRANSFORMER = NETWORK | {
    "loader": {"route": "timm", "arch": "vit_tiny_patch16_224", "keys": "random", "seed": 0,
               "options": {"img_size": 32}},
    "feature": {"name": "pooled", "d": 192},
}  # fmt: skip


def planted(tmp_path):
    """N pictures, the i-th of grey level 10 i, listed in an order that is not the folder's."""
    order = np.random.default_rng(0).permutation(N).tolist()
    columns = {name: [None] * N for name in MANIFEST.columns}
    for place, i in enumerate(order):
        path = tmp_path / f"{i:02d}.png"
        Image.new("RGB", (20, 10), (10 * i,) * 3).save(path)
        row = {
            "image_id": f"image_{i:02d}",
            "path": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "label": 0,
            "label_name": "a",
            "width": 20,
            "height": 10,
            "mode": "RGB",
        }
        for name, value in row.items():
            columns[name][place] = value
    about = {"dataset": "planted", "root": str(tmp_path), "made": "", "decoding": {}}
    write_table(MANIFEST, tmp_path / "manifest.parquet", columns, about)
    write_record("thumbnail", [], tmp_path / "fetched.json")
    return tmp_path


def textured(project):
    """Pictures of several sizes and formats, two of them much larger than the rest, in the same manifest."""
    table, about = read_table(MANIFEST, project / "manifest.parquet")
    columns = table.to_pydict()
    rng = np.random.default_rng(1)
    for place, name in enumerate(columns["path"]):
        width, height = (900, 600) if place in (0, 9) else rng.integers(70, 140, 2).tolist()
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image = image.convert("L") if place % 5 == 0 else image
        file = (project / name).with_suffix(".jpg" if place % 2 else ".tif")
        image.save(file)
        columns["path"][place] = file.name
        columns["sha256"][place] = hashlib.sha256(file.read_bytes()).hexdigest()
        columns["width"][place], columns["height"][place] = width, height
    write_table(MANIFEST, project / "manifest.parquet", columns, about)
