"""Images per second of model cards, with random weights: ``python -m benchmarks.throughput [MODEL ...]``.

Speed does not depend on the weights' values. The whole extraction (read, decode, preprocess, encode, write)
is set against the encoder alone on the same pictures, in turn, and half precision against float32.
Prints a Markdown table; the numbers hold for the machine in its first line and no other.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.side_by_side import processor
from discern.contracts import FEATURES, MANIFEST, read_table, write_table
from discern.encoders.base import Encoder, load_encoder, thread_count
from discern.encoders.preprocess import apply
from discern.encoders.record import write_record
from discern.features.extract import extract_features
from discern.files import sha256_file
from discern.registry import Registry

SMALL = ["vgg16", "resnet50", "clip_b16", "biomedclip", "make", "flair", "cxr_clip"]
ROUNDS = 3


def pictures(folder: Path, n: int, size: int) -> list[Path]:
    """Photographs-like noise pictures, PNG, RGB."""
    rng = np.random.default_rng(0)
    files = []
    for i in range(n):
        small = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        files.append(folder / f"{i:04d}.png")
        Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC).save(files[-1])
    return files


def manifest(folder: Path, files: list[Path]) -> Path:
    """A manifest of these pictures."""
    n = len(files)
    columns = {name: [None] * n for name in MANIFEST.columns} | {
        "image_id": [f.stem for f in files],
        "path": [f.name for f in files],
        "sha256": [sha256_file(f) for f in files],
        "label": [0] * n,
        "label_name": ["none"] * n,
        "width": [Image.open(f).width for f in files],
        "height": [Image.open(f).height for f in files],
        "mode": ["RGB"] * n,
    }
    write_table(MANIFEST, folder / "manifest.parquet", columns, {"dataset": "noise", "root": str(folder)})
    return folder / "manifest.parquet"


def half(encoder: Encoder, batch: np.ndarray) -> tuple[float, float]:
    """Seconds of the batch under bfloat16 autocast, largest feature difference relative to float32."""
    import torch

    exact = encoder.encode(batch)
    with torch.autocast(torch.device("cuda" if torch.cuda.is_available() else "cpu").type, torch.bfloat16):
        encoder.encode(batch)
        started = time.perf_counter()
        rounded = encoder.encode(batch)
        seconds = time.perf_counter() - started
    return seconds, float(np.abs(rounded - exact).max() / np.abs(exact).max())


def measure(name: str, folder: Path, files: list[Path], table: Path) -> list[str]:
    """One row of the table."""
    card = Registry(["registry"]).models[name]
    spec = card.extraction_spec()
    spec["loader"] |= {"keys": "random", "seed": 0}
    write_record(name, [], folder / "weights.json")
    encoder = load_encoder(spec, {})
    batch = np.stack([apply(Image.open(f), card.transform) for f in files[: card.batch_size]])
    encoder.encode(batch[:2])
    whole, alone = [], []
    for _ in range(ROUNDS):
        extract_features(spec, table, folder / "weights.json", folder / "out.parquet", card.batch_size)
        whole.append(read_table(FEATURES, folder / "out.parquet")[1]["images_per_second"])
        started = time.perf_counter()
        encoder.encode(batch)
        alone.append(len(batch) / (time.perf_counter() - started))
    seconds, difference = half(encoder, batch)
    shares = [w / a for w, a in zip(whole, alone, strict=True)]
    return [
        name, str(card.batch_size), f"{statistics.median(whole):.1f}", f"{statistics.median(alone):.1f}",
        f"{statistics.median(shares):.0%}", f"{len(batch) / seconds:.1f}", f"{difference:.1e}",
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=SMALL)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=512, help="side of the pictures in pixels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = pictures(folder, options.images, options.size)
        table = manifest(folder, files)
        rows = [measure(name, folder, files, table) for name in options.models]
    print(f"{json.dumps(device())}, {options.images} PNG pictures of {options.size} px\n")
    head = ["model", "batch", "extraction, images/s", "encoder alone, images/s", "share",
            "bfloat16, images/s", "largest difference to float32"]  # fmt: skip
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")


def device() -> dict[str, object]:
    """What computed: processor or GPU, threads, torch."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "device": gpu or processor(),
        "threads": thread_count(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }


if __name__ == "__main__":
    main()
