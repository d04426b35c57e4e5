"""Small planted cells: manifest, splits and features on disk."""

from types import SimpleNamespace

import numpy as np

from discern.contracts import FEATURES, MANIFEST, SPLITS, feature_table, write_table


def planted(n, d, k, distance, seed=0):
    """Gaussian classes at a distance in a random direction: features (n, d) float32, labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % k).astype(np.int32)
    centres = rng.normal(size=(k, d))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    scales = 1 / np.sqrt(1 + np.arange(d))
    return ((centres[labels] + rng.normal(size=(n, d)) * scales) * 3 + 5).astype(np.float32), labels


def write_cell(folder, features, labels, classes, *, protocol="image", folds=3, groups=None, fold_of=None):
    """Write the three inputs; every fifth image is the hold-out unless fold_of says otherwise (-1: test)."""
    n = len(labels)
    ids = [f"image_{i:04d}" for i in range(n)]
    rng = np.random.default_rng(7)
    if fold_of is None:
        fold_of = np.where(rng.permutation(n) % 5 == 0, -1, rng.permutation(n) % folds)
    image = {"path": "p", "sha256": "s", "official_split": None, "width": 8, "height": 8, "mode": "L"}
    columns = {name: [value] * n for name, value in image.items()}
    columns |= {"volume": [None] * n, "cluster": [None] * n, "mask_path": [None] * n, "boxes": [None] * n}
    columns |= {"image_id": ids, "label": labels, "label_name": [classes[c] for c in labels]}
    columns |= {"group": groups or [None] * n}
    files = SimpleNamespace(
        manifest=folder / "manifest.parquet",
        splits=folder / "splits.parquet",
        features=folder / "features.parquet",
    )
    about = {"dataset": "planted", "classes": list(classes), "title": "Planted", "root": "."}
    write_table(MANIFEST, files.manifest, columns, about)
    split = {
        "image_id": ids,
        "role": ["test" if f < 0 else "train" for f in fold_of],
        "fold": [None if f < 0 else int(f) for f in fold_of],
    }
    write_table(SPLITS, files.splits, split, {"dataset": "planted", "protocol": protocol, "seed": 0})
    about = {"model": "toy", "dataset": "planted", "fingerprint": "abc"}
    write_table(FEATURES, files.features, feature_table(ids, features), about)
    files.ids, files.fold_of = ids, np.asarray(fold_of)
    return files
