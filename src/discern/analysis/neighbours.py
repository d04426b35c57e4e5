"""Feature neighbours: what hold-out images resemble in the training part; near duplicates that hashes miss.

A perceptual hash finds pictures that are almost equal pixel by pixel. A crop, a turned or re-recorded
picture, or the next slice of a scan escapes it and still lets a classifier recognise what it has seen.
Encoders see such pairs. Controls (random weights, raw pixels) take no part.

Which pairs are candidates, per model: each is the other's nearest neighbour in the whole data set (mates
in a hash cluster left out), and their cosine distance is at most ``CLOSE`` of the median distance of a
nearest neighbour. The scale is the model's own, because cosines of different encoders cannot be compared.
A pair is listed if more than half of the models name it; of three pictures alike, one pair is.

``CLOSE`` was chosen on changed copies of 60 CT and MR patches by three small networks: of copies with 15 %
more brightness or at JPEG quality 90, it takes 90 to 100 %, cropped by 5 % 83 to 97 %, mirrored 80 to 87 %,
at half the resolution 57 %; turned by 90 degrees none. Without duplicates, a model names 1 % of the images
of a Gaussian cloud of 10 dimensions by chance, 0.25 % of one of 14, none of one of 20.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from discern.analysis.cell import read_labelled, read_places
from discern.analysis.knn import distance_blocks, unit_vectors
from discern.contracts import AUDIT_SHAPE, MANIFEST, ContractError, read_record, read_table, write_json
from discern.errors import problem

#: Largest distance of a candidate pair, as a share of the median distance of a nearest neighbour.
CLOSE = 0.4
LISTED = 200
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RULE = (
    "mutual nearest neighbours in the whole data set, hash-cluster mates left out, at a cosine distance of "
    f"up to {CLOSE} of the model's median distance to the nearest neighbour, by more than half of the models"
)


class Images(NamedTuple):
    """The images of a data set in manifest order: what the neighbours are judged by.

    ``groups`` and ``clusters`` (N,) int64 are numbers, -1 where there is none; ``test`` (N,) bool.
    """

    ids: list[str]
    labels: np.ndarray
    label_names: list[str]
    groups: np.ndarray
    group_names: list[str | None]
    clusters: np.ndarray
    test: np.ndarray


class Nearest(NamedTuple):
    """By one model: nearest training image of each hold-out image (T,), and of each image (N,) any other.

    ``cosine`` (T,) and ``distance`` (N,) belong to them; the latter leaves out hash-cluster mates
    (infinite where nothing is left).
    """

    training: np.ndarray
    cosine: np.ndarray
    other: np.ndarray
    distance: np.ndarray


def find_neighbours(
    features: Sequence[Path | str],
    manifest: Path | str,
    audit: Path | str,
    splits: Path | str,
    out: Path | str,
) -> None:
    """Write what the models of one data set say about neighbours across the hold-out, as JSON.

    ``features``: one file per model. Raises ContractError for damaged files and files of other images,
    DiscernError for a zero vector.
    """
    images, about = read_images(manifest, audit, splits)
    models, found = [], []
    for file in features:
        cell = read_labelled(file, manifest)
        if not cell.features.any(axis=1).all():
            raise problem(str(file), "a feature is zero and has no direction", repair="leave the model out")
        near = nearest(unit_vectors(cell.features), images)
        models.append(
            {"model": cell.model, "d": cell.features.shape[1]}
            | shares(near, images)
            | {"distance": scale(near)}
        )
        found.append((near, candidates(near)))
    pairs = agreed(found, images)
    write_json(
        out,
        {
            "dataset": about["dataset"], "protocol": about["protocol"], "rule": RULE, "close": CLOSE,
            "n": len(images.ids), "n_test": int(images.test.sum()), "chance": by_chance(images),
            "models": models, "n_pairs": len(pairs),
            "n_straddling": sum(p["straddles"] for p in pairs),
            "n_crossing": sum(not p["same_label"] for p in pairs),
            "pairs": pairs[:LISTED],
        },
    )  # fmt: skip


def read_images(manifest: Path | str, audit: Path | str, splits: Path | str) -> tuple[Images, dict[str, str]]:
    """Labels, groups, clusters and hold-out; and names of data set and protocol.

    Clusters are the manifest's, and those of the audit, exact and near, brought together.
    """
    table, about = read_table(MANIFEST, manifest)
    ids = table["image_id"].to_pylist()
    folds, about_splits = read_places(splits, ids, manifest)
    report = read_record(audit, AUDIT_SHAPE)
    members: dict[str, list[str]] = defaultdict(list)
    for image, cluster in zip(ids, table["cluster"].to_pylist(), strict=True):
        if cluster is not None:
            members[cluster].append(image)
    listed = [c["image_ids"] for kind in ("duplicates", "near_duplicates") for c in report.get(kind, [])]
    groups = table["group"].to_pylist()
    images = Images(
        ids,
        table["label"].to_numpy(),
        table["label_name"].to_pylist(),
        _numbers(groups),
        groups,
        _joined(ids, [*members.values(), *listed]),
        folds < 0,
    )
    if not images.test.any() or images.test.all():
        raise ContractError(f"{splits}: hold-out or training part is empty")
    return images, {"dataset": about["dataset"], "protocol": about_splits["protocol"]}


def _numbers(names: Sequence[str | None]) -> np.ndarray:
    """Names -> numbers, -1 for None."""
    number = {name: i for i, name in enumerate(dict.fromkeys(n for n in names if n is not None))}
    return np.array([-1 if name is None else number[name] for name in names])


def _joined(ids: list[str], clusters: list[list[str]]) -> np.ndarray:
    """Cluster number of each image, -1 for none; clusters with a common image are one."""
    parent: dict[str, str] = {}

    def root(image: str) -> str:
        while parent[image] != image:
            parent[image] = image = parent[parent[image]]
        return image

    for cluster in clusters:
        for image in cluster:
            parent.setdefault(image, image)
            parent[root(image)] = root(cluster[0])
    return _numbers([root(image) if image in parent else None for image in ids])


def nearest(unit: np.ndarray, images: Images) -> Nearest:
    """Exact cosine neighbours of unit vectors (N, d), in blocks of rows; ties go to the first image."""
    n = len(unit)
    mates = {c: np.flatnonzero(images.clusters == c) for c in set(images.clusters.tolist()) - {-1}}
    train = np.flatnonzero(~images.test)
    training, other = np.full(n, -1), np.zeros(n, dtype=np.int64)
    close, distance = np.zeros(n), np.zeros(n)
    for first, block in distance_blocks(unit):
        rows = np.arange(len(block))
        block[rows, rows + first] = np.inf  # the image itself
        held_out = rows[images.test[first : first + len(block)]]
        across = block[np.ix_(held_out, train)]
        best = across.argmin(axis=1)
        training[held_out + first], close[held_out + first] = train[best], across[np.arange(len(best)), best]
        for row in rows[images.clusters[first : first + len(block)] >= 0]:
            block[row, mates[images.clusters[first + row]]] = np.inf
        other[first : first + len(block)] = best = block.argmin(axis=1)
        distance[first : first + len(block)] = block[rows, best]
    return Nearest(training[images.test], 1 - close[images.test], other, distance)


def shares(near: Nearest, images: Images) -> dict[str, Any]:
    """Share of hold-out images whose nearest training image is of the same class, group or hash cluster.

    ``same_group`` is None without groups, and else of the hold-out images that have one.
    """
    label, group, cluster = (a[images.test] for a in (images.labels, images.groups, images.clusters))
    grouped = group >= 0
    same_group = (group == images.groups[near.training])[grouped]
    return {
        "same_label": float(np.mean(label == images.labels[near.training])),
        "same_group": float(np.mean(same_group)) if grouped.any() else None,
        "cluster_mate": float(np.mean((cluster >= 0) & (cluster == images.clusters[near.training]))),
        "cosine": {f"{q:g}": float(np.quantile(near.cosine, q)) for q in QUANTILES},
    }  # fmt: skip


def by_chance(images: Images) -> dict[str, float | None]:
    """The same shares if the neighbour were a training image taken at random."""

    def expected(names: np.ndarray) -> float | None:
        test, train = names[images.test], names[~images.test]
        known = test[test >= 0]
        counts = np.bincount(train[train >= 0], minlength=int(names.max()) + 1)
        return float(np.mean(counts[known]) / len(train)) if len(known) else None

    return {"same_label": expected(images.labels), "same_group": expected(images.groups)}


def scale(near: Nearest) -> float:
    """Median cosine distance of an image to its nearest other image."""
    known = near.distance[np.isfinite(near.distance)]
    return float(np.median(known)) if len(known) else 0.0


def candidates(near: Nearest) -> list[tuple[int, int]]:
    """Pairs (lower, higher row) that are each other's nearest and closer than the rule's limit."""
    rows = np.arange(len(near.other))
    mutual = (near.other[near.other] == rows) & (rows < near.other)
    chosen = rows[mutual & (near.distance <= CLOSE * scale(near))]
    return [(int(row), int(near.other[row])) for row in chosen]


def agreed(found: Sequence[tuple[Nearest, list[tuple[int, int]]]], images: Images) -> list[dict[str, Any]]:
    """Pairs of more than half of the models: those across the hold-out first, then by agreement."""
    seen: dict[tuple[int, int], list[float]] = defaultdict(list)
    for near, pairs in found:
        for a, b in pairs:
            seen[a, b].append(1 - float(near.distance[a]))
    listed = [
        {
            "image_ids": [images.ids[a], images.ids[b]],
            "labels": [images.label_names[a], images.label_names[b]],
            "groups": [images.group_names[a], images.group_names[b]],
            "same_label": bool(images.labels[a] == images.labels[b]),
            "same_group": _same(images.groups[a], images.groups[b]),
            "straddles": bool(images.test[a] != images.test[b]),
            "models": len(cosines),
            "cosine": float(np.median(cosines)),
        }
        for (a, b), cosines in seen.items()
        if 2 * len(cosines) > len(found)
    ]  # fmt: skip
    return sorted(listed, key=lambda p: (not p["straddles"], -p["models"], -p["cosine"], p["image_ids"]))


def _same(a: int, b: int) -> bool | None:
    """Are two groups the same; None where one is unknown."""
    return bool(a == b) if min(a, b) >= 0 else None
