"""Inputs of the benchmarks that need no encoder."""

import numpy as np

#: Shapes of Tables 3 and 4: data set -> images, classes of the card.
PAPER_SHAPES = {
    "brain_mr": (2870, 4),
    "sars_cov2_ct": (2481, 2),
    "pneumoniamnist": (4708, 2),
    "breastus": (780, 3),
    "breakhis": (7909, 2),
    "hicervix": (28160, 26),
    "deepdrid": (1200, 5),
    "isic2019": (25331, 8),
}


def planted(n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, d) float32 with class structure and a decaying spectrum, labels (N,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    spectrum = 1 / np.sqrt(1 + np.arange(d))
    features = (rng.normal(size=(k, d))[labels] + 1.5 * rng.normal(size=(n, d))) * spectrum
    return features.astype(np.float32), labels
