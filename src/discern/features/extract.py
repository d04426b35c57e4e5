"""The loop from manifest to feature file, the same for every encoder.

Pictures are decoded and preprocessed by a few threads a bounded number of batches ahead, so that
neither the encoder waits nor memory grows with the data set. Rows are written in manifest order.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import logging
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from discern.contracts import FEATURES, MANIFEST, feature_table, read_table, write_table
from discern.data.pictures.images import Pictures
from discern.data.pictures.volumes import open_volume
from discern.encoders import volumes
from discern.encoders.base import Encoder, load_encoder, thread_count, transform_of
from discern.encoders.describe import describe
from discern.encoders.preprocess import apply
from discern.encoders.record import read_weights, weights_digest
from discern.errors import problem
from discern.model_card import Preprocess, VolumePreprocess

log = logging.getLogger("discern")

#: From what a file holds to the encoder's input: a picture to float32 (C, H, W), or a volume with its
#: affine to float32 (1, D, H, W).
Transform = Callable[[Any], np.ndarray]

#: Batches decoded ahead of the encoder.
LOOK_AHEAD = 2

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
    batch_size: int,
    device: str = "auto",
    fingerprint: str = "",
) -> None:
    """Write the features (N, d), float32, of every image of a manifest by one encoder.

    ``spec`` is ``ModelCard.extraction_spec()``, ``weights`` the record of ``fetch_weights``. Raises
    DiscernError naming the image that has changed since the manifest, does not decode, or has a
    feature that is not finite; and if not even one picture fits into memory.
    """
    table, about = read_table(MANIFEST, manifest)
    rows = table.select(["image_id", "path", "sha256"]).to_pylist()
    p = transform_of(spec)
    encoder = load_encoder(spec, read_weights(weights), device)
    official = getattr(encoder, "transform", None)
    store = Pictures.of(about)
    opened, transform = _reading(p, store, official)
    features = np.empty((len(rows), encoder.d), np.float32)
    started = time.perf_counter()
    batches = Batches(encoder, batch_size)
    done = 0
    with tqdm(total=len(rows), unit="image", file=sys.stderr, mininterval=10) as bar:
        for pictures in _pictures(rows, store, transform, batch_size, opened):
            block = batches.encode(pictures)
            _check_finite(block, rows[done : done + len(block)], spec["name"])
            features[done : done + len(block)] = block
            done += len(block)
            bar.update(len(block))
    seconds = time.perf_counter() - started
    metadata = {
        "model": spec["name"],
        "dataset": about["dataset"],
        "d": encoder.d,
        "feature": spec["feature"]["name"],
        "weights_digest": weights_digest(weights),
        "preprocess": describe(p) + ("; by the authors' own code" if official else ""),
        "dtype": "float32",
        "versions": library_versions(),
        "device": encoder.device,
        "fingerprint": fingerprint,
        "images_per_second": round(len(rows) / seconds, 2),
    }
    write_table(FEATURES, out, feature_table([row["image_id"] for row in rows], features), metadata)
    log.info("%d images, %.1f per second on %s", len(rows), len(rows) / seconds, encoder.device)


def _reading(
    p: Preprocess | VolumePreprocess, store: Pictures, official: Transform | None
) -> tuple[Callable[[str], Any], Transform]:
    """How an image is opened, and what makes the encoder's input of that."""
    if isinstance(p, VolumePreprocess):
        return lambda path: open_volume(store.file(path)), lambda scan: volumes.apply(scan[0], scan[1], p)
    return store.open, official or functools.partial(apply, p=p)


def _pictures(
    rows: list[dict[str, Any]],
    store: Pictures,
    transform: Transform,
    batch_size: int,
    opened: Callable[[str], Any] | None = None,
) -> Iterator[np.ndarray]:
    """Preprocessed batches, float32 (B, C, H, W) or (B, 1, D, H, W), in order.

    ``opened`` reads an image, as a picture by default. At most LOOK_AHEAD batches are kept waiting.
    """

    def read(row: dict[str, Any]) -> np.ndarray:
        image = (opened or store.open)(row["path"])  # first: it has a message for a file that has gone
        if store.sha256(row["path"]) != row["sha256"]:
            raise problem(
                str(store.file(row["path"])),
                f"image '{row['image_id']}' has changed since the manifest was made",
                repair="restore the file, or delete the manifest and prepare the data set again",
            )
        return transform(image)

    waiting: deque[Future[np.ndarray]] = deque()
    upcoming = iter(rows)
    with ThreadPoolExecutor(thread_count()) as pool:
        try:
            for row in itertools.islice(upcoming, batch_size * (LOOK_AHEAD + 1)):
                waiting.append(pool.submit(read, row))
            while waiting:
                batch = [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
                for row in itertools.islice(upcoming, len(batch)):
                    waiting.append(pool.submit(read, row))
                yield np.stack(batch)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Batches:
    """Encodes in batches that shrink when memory runs out, and stay small from then on."""

    def __init__(self, encoder: Encoder, batch_size: int):
        self._encoder, self.size = encoder, batch_size

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """float32 (B, C, H, W) -> float32 (B, d)."""
        parts: list[np.ndarray] = []
        start = 0
        while start < len(pictures):
            part = pictures[start : start + self.size]
            reason = ""
            try:
                parts.append(self._encoder.encode(part))
                start += len(part)
            except Exception as error:  # torch, ONNX Runtime and NumPy each have their own
                if not out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0] if str(error) else "no figure given"
            # Outside the handler: while the exception lives, so do the tensors of its frames.
            if reason:
                self._shrink(len(part), reason)
        return np.concatenate(parts)

    def _shrink(self, tried: int, reason: str) -> None:
        _release()
        size = " x ".join(map(str, self._encoder.input_size))
        if tried == 1:
            raise problem(
                f"device {self._encoder.device}",
                f"not even one picture of {size} px fits into memory ({reason})",
                repair="run this model on a device with more memory, or with device cpu",
            )
        self.size = tried // 2
        log.warning("out of memory with %d pictures (%s); going on with %d", tried, reason, self.size)


def out_of_memory(error: Exception) -> bool:
    """Whether an exception of any library says that memory ran out."""
    text = str(error).lower()
    # "illegal memory access" is a broken kernel, which a smaller batch does not mend.
    full = ("memory" in text or "alloc" in text) and "illegal" not in text
    return isinstance(error, MemoryError) or full


def _release() -> None:
    """Give cached blocks of the GPU back, which a smaller batch would not reuse."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


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
