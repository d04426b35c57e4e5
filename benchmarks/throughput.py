"""Images per second of model cards, with random weights: ``python -m benchmarks.throughput [MODEL ...]``.

For a machine with an accelerator, or without. Speed does not depend on the weights' values. The whole
extraction (read, decode, preprocess, encode, write) is set against the slower of reading alone and
encoding alone on the same pictures, in turn, in float32 and in half precision.
Prints a Markdown table; the numbers hold for the machine in its first line and no other.
ViT-L/14-336: ``python -m benchmarks.throughput clip_l14 --images 512 --size 1000 --batch auto``.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.extraction_parts import encoding, reading, seconds
from benchmarks.pictures import manifest, pictures
from benchmarks.side_by_side import processor
from discern.contracts import FEATURES, MANIFEST, read_table
from discern.data.pictures.images import Pictures
from discern.encoders.base import Encoder, load_encoder, thread_count, transform_of
from discern.features.extract import extract_features
from discern.features.precision import deviation
from discern.features.reading import Reader
from discern.registry import Registry

SMALL = ["vgg16", "resnet50", "clip_b16", "biomedclip", "make", "flair", "cxr_clip"]
ROUNDS = 3


def measure(name: str, precision: str, folder: Path, wanted: int | str) -> list[str]:
    """One row of the table."""
    card = Registry(["registry"]).models[name]
    spec = card.extraction_spec() | ({} if precision == "float32" else {"precision": precision})
    spec["loader"] |= {"keys": "random", "seed": 0}
    table, about = read_table(MANIFEST, folder / "manifest.parquet")
    reader = Reader(table.to_pylist(), Pictures.of(about), transform_of(spec))
    encoder = load_encoder(spec, {})
    files = (folder / "manifest.parquet", folder / "weights.json", folder / "out.parquet")
    n, chosen = table.num_rows, wanted or card.batch_size
    extract_features(spec, *files, chosen)  # warms up, and chooses the batch
    batch = _stacked(reader, encoder, min(n, read_table(FEATURES, files[2])[1]["batch_size"]))
    encoder.encode(batch)
    whole, read, alone = [], [], []
    for _ in range(ROUNDS):
        extract_features(spec, *files, chosen)
        whole.append(read_table(FEATURES, files[2])[1]["images_per_second"])
        read.append(n / seconds(lambda: reading(reader, n, len(batch)))[0])
        alone.append(n / seconds(lambda: encoding(encoder, batch, n))[0])
    shares = [w / min(r, a) for w, r, a in zip(whole, read, alone, strict=True)]
    far = deviation(encoder.encode(batch), encoder.exact(batch))
    rates = [statistics.median(rate) for rate in (whole, read, alone)]
    return [
        name, precision, str(len(batch)), *(f"{rate:.1f}" for rate in rates),
        f"{statistics.median(shares):.0%}", f"{far['max_relative']:.1e}", f"{1 - far['min_cosine']:.1e}",
    ]  # fmt: skip


def _stacked(reader: Reader, encoder: Encoder, n: int) -> np.ndarray:
    first = reader(0)
    batch = encoder.buffer((n, *first.shape))
    for i in range(n):
        reader(i, batch[i])
    return batch


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=SMALL)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=512, help="side of the pictures in pixels")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batch", type=lambda n: n if n == "auto" else int(n), help="instead of the card's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest(folder, pictures(folder / "images", [options.size] * options.images))
        rows = [
            measure(name, precision, folder, options.batch)
            for name in options.models
            for precision in options.precision
        ]
    print(f"{json.dumps(device())}, {options.images} JPEG pictures of {options.size} px\n")
    head = ["model", "precision", "batch", "extraction, images/s", "reading alone", "encoding alone",
            "extraction by the slower", "largest difference to float32", "1 - cosine"]  # fmt: skip
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
