"""Feature maps: UMAP of one cell over a grid of n_neighbors and min_dist, with quality numbers.

One exact cosine neighbour search serves all settings; the maps themselves are umap-learn's, bit for
bit. All settings run in one process, because importing and compiling cost more than a small map.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from discern.analysis.cell import read_labelled
from discern.analysis.knn import nearest, trustworthiness, unit_vectors
from discern.config import UmapSettings
from discern.contracts import UMAP, write_table
from discern.errors import problem

#: The fewest points from which umap-learn's spectral start can be computed in two dimensions.
FEWEST = 5


def embed_cell(
    features: Path | str, manifest: Path | str, settings: UmapSettings, out: Path | str, *, threads: int = 1
) -> None:
    """Map one cell's features with every setting; writes UMAP with the quality of each in its metadata.

    Raises DiscernError for a zero vector, which has no direction, or fewer than five images.
    """
    from threadpoolctl import threadpool_limits

    cell = read_labelled(features, manifest)
    zero = np.flatnonzero(~cell.features.any(axis=1))
    if len(zero):
        raise problem(
            str(features),
            f"the feature of image '{cell.image_ids[zero[0]]}' is zero ({len(zero)} such images); "
            "cosine distance needs a direction",
            repair="drop the image from the data set or leave the model out",
        )
    if len(cell.image_ids) < FEWEST:
        raise problem(str(manifest), f"{len(cell.image_ids)} images are too few for a map, at least {FEWEST}")
    with threadpool_limits(threads):
        maps, quality = embed_grid(cell.features, cell.labels, settings)
    columns = {
        "image_id": pa.array(cell.image_ids * len(quality), pa.string()),
        "n_neighbors": _each([q["n_neighbors"] for q in quality], len(cell.image_ids), pa.int32()),
        "min_dist": _each([q["min_dist"] for q in quality], len(cell.image_ids), pa.float64()),
        "x": pa.array(np.concatenate([m[:, 0] for m in maps]), pa.float32()),
        "y": pa.array(np.concatenate([m[:, 1] for m in maps]), pa.float32()),
    }
    about = {
        "model": cell.model,
        "dataset": cell.dataset,
        "quality": quality,
        "metric": settings.metric,
        "seed": settings.seed,
        "settings": settings.model_dump(mode="json"),
        "features_fingerprint": cell.about_features.get("fingerprint"),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("umap-learn", "numba", "numpy", "scipy", "scikit-learn")
        },
    }
    write_table(UMAP, out, pa.table(columns), about)


def embed_grid(
    features: np.ndarray, labels: np.ndarray, settings: UmapSettings
) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Features (N, d) float32 without zero rows, labels (N,) -> per setting a map (N, 2) float32, quality.

    Quality: trustworthiness (cosine in the features), and neighbour purity, the share of the same class
    among each point's nearest in the map. Settings are ordered by n_neighbors, then min_dist; an
    n_neighbors that the set cannot fill is lowered to N - 1 and recorded as ``n_neighbors_used``.
    """
    from sklearn.neighbors import NearestNeighbors

    umap = load_umap()
    n = len(features)
    unit = unit_vectors(features)
    used = {asked: min(asked, n - 1) for asked in settings.n_neighbors}
    indices, distances = nearest(unit, max(used.values()))
    judged = min(settings.quality_neighbors, (n - 1) // 2)
    grid = [(asked, min_dist) for asked in settings.n_neighbors for min_dist in settings.min_dist]
    maps, around, quality = [], [], []
    for asked, min_dist in tqdm(grid, "maps", file=sys.stderr, mininterval=10):
        k = used[asked]
        reducer = umap.UMAP(
            n_neighbors=k,
            min_dist=min_dist,
            metric=settings.metric,
            random_state=settings.seed,
            n_jobs=1,
            # umap-learn changes the arrays it is given, and below 4,096 points does not cut them to k.
            precomputed_knn=(indices[:, :k].copy(), distances[:, :k].copy()),
            force_approximation_algorithm=True,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="precomputed_knn", category=UserWarning)
            maps.append(np.asarray(reducer.fit_transform(features), dtype=np.float32))
        found = NearestNeighbors(n_neighbors=judged).fit(maps[-1]).kneighbors(return_distance=False)
        around.append(found)
        quality.append(
            {
                "n_neighbors": asked,
                "n_neighbors_used": k,
                "min_dist": min_dist,
                "quality_neighbors": judged,
                "neighbour_purity": float(np.mean(labels[found] == labels[:, None])),
            }
        )
    for row, value in zip(quality, trustworthiness(unit, around), strict=True):
        row["trustworthiness"] = value
    return maps, quality


def load_umap() -> Any:
    """Import umap-learn with the machine code of its slow-to-compile functions kept on disk.

    It compiles three functions anew in every process; numba can keep them, beside the
    environment. Where that is impossible everything works as before, only slower.
    """
    if os.access(sys.prefix, os.W_OK):  # numba reads the variable when it is first imported
        os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(sys.prefix) / "numba-cache"))
    import umap
    import umap.layouts
    import umap.umap_

    for module, name in (
        (umap.umap_, "smooth_knn_dist"),
        (umap.umap_, "compute_membership_strengths"),
        (umap.layouts, "_nb_optimize_layout_euclidean_single_epoch"),
    ):
        function = getattr(module, name, None)
        # Another version may lack the function, and numba refuses a cache without a writable folder.
        with contextlib.suppress(RuntimeError):
            if function is not None and not function.signatures:  # else it is compiled already
                function.enable_caching()
    return umap


def _each(values: list[Any], times: int, kind: pa.DataType) -> pa.Array:
    return pa.array(np.repeat(np.array(values), times), kind)
