"""How good a map is: trustworthiness, continuity and neighbour purity.

Trustworthiness falls with points that are near in the map and far in the features, continuity with those
near in the features and far in the map (Venna & Kaski 2001; 1 is best, about 0.5 is chance). Neighbour
purity is the share of the same class among the nearest in the map. Above ``sample`` points, the first two
are means over that many points drawn with a fixed seed; ranks are always among all points.
"""

from __future__ import annotations

import numpy as np

from discern.analysis.knn import distance_blocks


def judge(
    unit: np.ndarray,
    labels: np.ndarray,
    maps: list[np.ndarray],
    near: np.ndarray,
    k: int,
    sample: int,
) -> list[dict[str, float]]:
    """Per map its quality numbers.

    unit (N, d) float64, rows of length 1; labels (N,); maps (N, 2) float32; near (N, >= k) the nearest in
    the features, the point itself left out; k < N / 2. Points without a place (NaN) count as at 0, 0.
    """
    maps = [np.nan_to_num(one) for one in maps]
    points = judged_points(len(unit), sample)
    around = np.stack([_nearest_in_map(one, k) for one in maps])
    trust = trustworthiness(unit, around[:, points], points)
    whole = continuity(maps, near[points, :k], points)
    return [
        {
            "trustworthiness": t,
            "continuity": c,
            "neighbour_purity": float(np.mean(labels[found] == labels[:, None])),
        }
        for t, c, found in zip(trust, whole, around, strict=True)
    ]


def judged_points(n: int, sample: int) -> np.ndarray:
    """Numbers of the points whose ranks are judged, ascending: all, or ``sample`` of them by seed 0."""
    return np.arange(n) if n <= sample else np.sort(np.random.default_rng(0).permutation(n)[:sample])


def _nearest_in_map(one: np.ndarray, k: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=k).fit(one).kneighbors(return_distance=False)
    return np.asarray(found, dtype=np.int64)


def trustworthiness(unit: np.ndarray, around: np.ndarray, points: np.ndarray) -> list[float]:
    """Per map; equals scikit-learn's with metric="cosine" where every point is judged.

    unit (N, d); around (maps, P, k): per map the nearest of the judged points (P,), themselves left out.
    """
    from discern.analysis.umap.selection import trust_penalties

    penalties = np.zeros(len(around))
    for first, block in distance_blocks(unit, points):
        part = slice(first, first + len(block))
        trust_penalties(block, points[part], np.ascontiguousarray(around[:, part]), penalties)
    scale = _scale(len(unit), len(points), around.shape[2])
    return [float(1 - scale * penalty) for penalty in penalties]


def continuity(maps: list[np.ndarray], near: np.ndarray, points: np.ndarray) -> list[float]:
    """Per map (N, 2): the ranks in the map of what is nearest in the features, near (P, k)."""
    from discern.analysis.umap.selection import continuity_penalty

    near = np.ascontiguousarray(near, dtype=np.int64)
    scale = _scale(len(maps[0]), len(points), near.shape[1])
    return [float(1 - scale * continuity_penalty(*np.ascontiguousarray(one.T), points, near)) for one in maps]


def _scale(n: int, judged: int, k: int) -> float:
    return 2 / (judged * k * (2 * n - 3 * k - 1))
