"""From manifest to feature file, the same for every encoder.

Reading and encoding overlap; both fill the cores that the job has, a bounded amount of memory ahead of
each other. Rows are written in manifest order, and no choice of speed changes a number.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from discern.config import ExtractSettings
from discern.contracts import FEATURES, MANIFEST, feature_table, read_table, write_table
from discern.data.pictures.images import Pictures
from discern.encoders.base import Encoder, load_encoder, thread_count, transform_of
from discern.encoders.describe import describe
from discern.encoders.record import read_weights, weights_digest
from discern.errors import problem
from discern.features.batches import Batches
from discern.features.memory import IN_FLIGHT, chosen_batch
from discern.features.pipeline import Crew, encoded
from discern.features.precision import deviation
from discern.features.reading import Reader
from discern.features.resized import resized

log = logging.getLogger("discern")

#: Pictures on which half precision and compilation are compared with float32, at least.
COMPARED = 32

#: Import name -> distribution of every library whose version may move a feature.
LIBRARIES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "open_clip": "open-clip-torch",
    "transformers": "transformers",
    "llava": "llava-torch",
    "onnxruntime": "onnxruntime",
    "nibabel": "nibabel",
}


def extract_features(
    spec: dict[str, Any],
    manifest: Path | str,
    weights: Path | str,
    out: Path | str,
    batch_size: int | str,
    device: str = "auto",
    fingerprint: str = "",
    settings: ExtractSettings | None = None,
    shared: Path | str = "",
) -> None:
    """Write the features (N, d), float32, of every image of a manifest by one encoder.

    ``spec`` is ``ModelCard.extraction_spec()``, ``weights`` the record of ``fetch_weights``,
    ``batch_size`` the card's, ``shared`` the folder of resized pictures. Raises DiscernError naming the
    image that has changed since the manifest, does not decode, or has a feature that is not finite; and
    if not even one picture fits into memory.
    """
    settings = settings or ExtractSettings()
    table, about = read_table(MANIFEST, manifest)
    rows = table.select(["image_id", "path", "sha256", "width", "height"]).to_pylist()
    p = transform_of(spec)
    encoder = load_encoder(spec, read_weights(weights), device)
    official = getattr(encoder, "transform", None)
    store = Pictures.of(about)
    started = time.perf_counter()
    limit = settings.picture_cache_gib * 2**30 if official is None else 0
    with resized(shared, limit, about["dataset"], len(rows), p, store) as kept:
        reader = Reader(rows, store, p, official, kept)
        features, measured = _features(spec, rows, reader, encoder, batch_size, settings)
    seconds = time.perf_counter() - started
    metadata = {
        "model": spec["name"],
        "dataset": about["dataset"],
        "d": encoder.d,
        "feature": spec["feature"]["name"],
        "weights_digest": weights_digest(weights),
        "preprocess": describe(p) + ("; by the authors' own code" if official else ""),
        "dtype": "float32",
        "precision": spec.get("precision", "float32"),
        "compile": spec.get("compile", False),
        "versions": library_versions(),
        "device": encoder.device,
        "fingerprint": fingerprint,
        "images_per_second": round(len(rows) / seconds, 2),
    }
    table = feature_table([row["image_id"] for row in rows], features)
    write_table(FEATURES, out, table, metadata | measured)
    log.info("%d images, %.1f per second on %s", len(rows), len(rows) / seconds, encoder.device)


def _features(
    spec: dict[str, Any],
    rows: list[dict[str, Any]],
    reader: Reader,
    encoder: Encoder,
    batch_size: int | str,
    settings: ExtractSettings,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The features (N, d), and what was chosen and measured on the way."""
    features = np.empty((len(rows), encoder.d), np.float32)
    if not rows:
        return features, {}
    threads = thread_count()
    crew = Crew(threads, _encoders(encoder, threads), settings.look_ahead_mib * 2**20)
    first = reader(0)
    size = chosen_batch(encoder, first, batch_size, crew.encoders, not spec.get("compile"))
    parts = _ordered(rows, size)
    if reader.shares:  # jobs that run side by side begin apart, and find what the others have resized
        turn = zlib.crc32(spec["name"].encode()) % len(parts)
        parts = parts[turn:] + parts[:turn]
    batches = Batches(encoder, size)
    measured: dict[str, Any] = {"batch_size": size}
    work = encoded(parts, reader, batches.encode, lambda: encoder.buffer((size, *first.shape)), crew)
    with tqdm(total=len(rows), unit="image", file=sys.stderr, mininterval=10) as bar:
        for part, block in work:
            _check_finite(block, rows[part.start : part.stop], spec["name"])
            features[part.start : part.stop] = block
            bar.update(len(part))
    if spec.get("precision") or spec.get("compile"):
        count = min(max(size, COMPARED), len(rows))
        exact = batches.through(encoder.exact, np.stack([reader(i) for i in range(count)]))
        measured["deviation"] = deviation(features[:count], exact)
        log.info("deviation from float32: %s", measured["deviation"])
    return features, measured


def _ordered(rows: list[dict[str, Any]], size: int) -> list[range]:
    """Batches with the fewest pixels first: encoding begins soon, and has work while huge ones are read.

    The shortest schedule of two steps of which the second takes equally long for all (Johnson 1954).
    """

    def pixels(part: range) -> int:
        return sum((rows[i]["width"] or 0) * (rows[i]["height"] or 0) for i in part)

    return sorted((range(i, min(i + size, len(rows))) for i in range(0, len(rows), size)), key=pixels)


def _encoders(encoder: Encoder, threads: int) -> int:
    """Threads that encode: on the CPU one for each core, on a GPU two, so that it never waits."""
    workers = threads if encoder.device == "cpu" else IN_FLIGHT
    return workers if encoder.concurrent(workers) else 1


def _check_finite(block: np.ndarray, rows: list[dict[str, Any]], model: str) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if bad.size:
        raise problem(
            f"model '{model}'",
            f"the feature of image '{rows[bad[0]]['image_id']}' is not finite",
            repair="look at that image; if it is sound, the weights or loader.options are not",
        )


def library_versions() -> dict[str, str]:
    """Version of Python and of every imported library that may move a feature."""
    found = {"python": platform.python_version()}
    for module, distribution in LIBRARIES.items():
        if module in sys.modules:
            found[distribution] = importlib.metadata.version(distribution)
    return found
