"""One process of the benchmark of extraction: ``python -m benchmarks.extraction_parts FOLDER MODEL ...``.

Reading alone, encoding alone and the whole extraction, in turn, with as many threads as OMP_NUM_THREADS
says; prints JSON: wall and CPU seconds of every round.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures import CLIP, spec
from discern.config import ExtractSettings
from discern.contracts import FEATURES, MANIFEST, read_table
from discern.data.pictures.images import Pictures
from discern.encoders.base import Encoder, load_encoder, thread_count
from discern.features.extract import extract_features
from discern.features.memory import chosen_batch
from discern.features.pipeline import Crew, encoded
from discern.features.reading import Reader
from discern.model_card import Preprocess

#: As torchvision prepares its own, which is what the peers do.
TORCHVISION = {"size": 256, "interpolation": "bilinear"}
MODELS = {
    "mobilenetv3-small": spec("small", "torchvision", "mobilenet_v3_small", 576, **TORCHVISION),
    "resnet50": spec("resnet50", "torchvision", "resnet50", 2048, **TORCHVISION),
    "ViT-B/16": spec("vit_b", "torchvision", "vit_b_16", 768, **TORCHVISION),
    "ViT-B/32": spec("clip_b32", "open_clip", "ViT-B-32", 512, **CLIP),
}
BATCH = 32
SETTINGS = ExtractSettings()


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def reading(reader: Reader, n: int, batch: int) -> None:
    """Read and preprocess all pictures and encode nothing."""
    parts = [range(i, min(i + batch, n)) for i in range(0, n, batch)]
    shape = reader(0).shape
    crew = Crew(thread_count(), 1, SETTINGS.look_ahead_mib * 2**20)
    for _ in encoded(
        parts, reader, lambda b: b[:, 0, 0, 0], lambda: np.empty((batch, *shape), np.float32), crew
    ):
        pass


def encoding(encoder: Encoder, batch: np.ndarray, n: int) -> None:
    """Encode as many pictures, one batch after the other, every thread inside the operations."""
    if encoder.device == "cpu":
        import torch

        torch.set_num_threads(thread_count())
    for start in range(0, n, len(batch)):
        encoder.encode(batch[: n - start])


def whole(
    folder: Path, card: dict[str, Any], n: int, settings: ExtractSettings = SETTINGS, shared: str = ""
) -> tuple[float, float]:
    """Wall and CPU seconds of extracting ``n`` pictures, file to file, the network built beforehand."""
    loading = seconds(lambda: load_encoder(card, {}))[1]
    files = (folder / "manifest.parquet", folder / "weights.json", folder / "out.parquet")
    busy = seconds(lambda: extract_features(card, *files, BATCH, settings=settings, shared=shared))[1]
    rate = read_table(FEATURES, files[2])[1]["images_per_second"]
    return n / rate, busy - loading


def measure(folder: Path, card: dict[str, Any], rounds: int, encode: int, shared: bool) -> dict[str, Any]:
    """Seconds by side and round; encoding alone is measured on ``encode`` pictures.

    Reading alone and encoding alone go in the batches that extraction chooses.
    """
    table, about = read_table(MANIFEST, folder / "manifest.parquet")
    rows = table.to_pylist()
    reader = Reader(rows, Pictures.of(about), Preprocess.model_validate(card["preprocess"]))
    encoder = load_encoder(card, {})
    size = chosen_batch(encoder, reader(0), BATCH, 1)
    batch = np.stack([reader(i) for i in range(min(size, len(rows)))])
    out = encoder.buffer(batch.shape)
    out[...] = batch
    encoder.encode(out[:2])
    found: dict[str, Any] = {"n": len(rows), "encoded": encode, "read": [], "encode": [], "whole": []}
    found |= {"fill": [], "find": []} if shared else {}
    for _ in range(rounds):
        found["read"].append(seconds(lambda: reading(reader, len(rows), size)))
        found["encode"].append(seconds(lambda: encoding(encoder, out, encode)))
        found["whole"].append(whole(folder, card, len(rows)))
        if shared:
            keep = ExtractSettings(picture_cache_gib=1)
            with tempfile.TemporaryDirectory() as kept:
                found["fill"].append(whole(folder, card, len(rows), keep, kept))
                found["find"].append(whole(folder, card | {"name": "second"}, len(rows), keep, kept))
    return found


if __name__ == "__main__":
    logging.disable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encode", type=int, default=64)
    parser.add_argument("--shared", action="store_true", help="also with pictures kept for a second model")
    options = parser.parse_args()
    card = MODELS[options.model]
    print(json.dumps(measure(options.folder, card, options.rounds, options.encode, options.shared)))
