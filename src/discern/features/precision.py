"""What half precision and compilation cost: features beside those of float32, on the same pictures."""

from __future__ import annotations

from typing import Any

import numpy as np


def deviation(features: np.ndarray, exact: np.ndarray) -> dict[str, Any]:
    """How far features (n, d) lie from the float32 ones, (n, d): the worst of the n images.

    ``max_relative``: largest difference by the largest exact value of that image; ``min_cosine``:
    cosine similarity of the two. Both are 0 and 1 for equal features, zeros included.
    """
    a, b = np.asarray(features, np.float64), np.asarray(exact, np.float64)
    largest = np.abs(b).max(axis=1)
    relative = np.abs(a - b).max(axis=1) / np.where(largest > 0, largest, 1)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.where(
        lengths > 0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1), (a == b).all(axis=1)
    )
    return {
        "images": len(a),
        "max_relative": float(relative.max()),
        "min_cosine": float(cosine.min()),
    }
