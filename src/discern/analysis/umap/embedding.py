"""Feature maps: UMAP of one cell over a grid of n_neighbors and min_dist, with quality numbers.

One cosine neighbour search serves all settings, one fuzzy set and start those of one n_neighbors. With
the engine ``umap-learn`` the maps are umap-learn's, bit for bit; ``fused`` moves all maps of an n_neighbors
together. All settings run in one process: importing and compiling cost more than a small map.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from discern.analysis.cell import read_labelled
from discern.analysis.knn import nearest, nearest_approximately, unit_vectors
from discern.analysis.umap import needs
from discern.analysis.umap.graph import build_graph, layouts
from discern.analysis.umap.quality import judge
from discern.config import UmapSettings
from discern.contracts import UMAP, write_table
from discern.errors import problem
from discern.free_memory import figured

#: The fewest points from which umap-learn's spectral start can be computed in two dimensions.
FEWEST = 5


def embed_cell(
    features: Path | str, manifest: Path | str, settings: UmapSettings, out: Path | str, *, threads: int = 1
) -> None:
    """Map one cell's features with every setting; writes UMAP with the quality of each in its metadata.

    Raises DiscernError for a zero vector, which has no direction, fewer than five images, or memory that
    holds not one thread's work; where it holds fewer than ``threads``, fewer work, with the same results.
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
    where, (n, d) = f"{cell.model} on {cell.dataset}", cell.features.shape
    threads = needs.workers(where, n, d, settings, threads)
    need = needs.of_cell(n, d, settings) + threads * needs.of_map(n, settings)
    with threadpool_limits(threads), figured(where, f"maps of {n} images x {d}", need):
        maps, quality = embed_grid(cell.features, cell.labels, settings, threads)
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
        "engine": settings.engine,
        "neighbours": "exact" if exact(len(cell.image_ids), settings) else "pynndescent",
        "quality_points": min(len(cell.image_ids), settings.quality_sample),
        "seed": settings.seed,
        "settings": settings.model_dump(mode="json"),
        "features_fingerprint": cell.about_features.get("fingerprint"),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("umap-learn", "pynndescent", "numba", "numpy", "scipy", "scikit-learn")
        },
    }
    write_table(UMAP, out, pa.table(columns), about)


def embed_grid(
    features: np.ndarray, labels: np.ndarray, settings: UmapSettings, threads: int = 1
) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Features (N, d) float32 without zero rows, labels (N,) -> per setting a map (N, 2) float32, quality.

    Settings are ordered by n_neighbors, then min_dist; an n_neighbors that the set cannot fill is lowered
    to N - 1 and recorded as ``n_neighbors_used``. The result is the same with any number of threads.
    """
    n = len(features)
    unit = unit_vectors(features)
    used = [min(asked, n - 1) for asked in settings.n_neighbors]
    judged = min(settings.quality_neighbors, (n - 1) // 2)
    k = max(*used, judged + 1)
    if exact(n, settings):
        indices, distances = nearest(unit, k, threads)
    else:
        indices, distances = nearest_approximately(features, k, settings.seed)
    graphs = []
    for width in used:
        graphs.append(
            build_graph(features, indices[:, :width].copy(), distances[:, :width].copy(), settings.seed)
        )
    maps = layouts(graphs, settings.min_dist, settings.engine, threads)
    found = judge(unit, labels, maps, indices[:, 1:], judged, settings.quality_sample)
    grid = [
        {"n_neighbors": asked, "n_neighbors_used": width, "min_dist": m, "quality_neighbors": judged}
        for asked, width in zip(settings.n_neighbors, used, strict=True)
        for m in settings.min_dist
    ]
    return maps, [cell | numbers for cell, numbers in zip(grid, found, strict=True)]


def exact(n: int, settings: UmapSettings) -> bool:
    """Are the neighbours of n points searched exactly?"""
    return n <= settings.exact_neighbors_up_to


def _each(values: list[Any], times: int, kind: pa.DataType) -> pa.Array:
    return pa.array(np.repeat(np.array(values), times), kind)
