"""What is odd about a data set: damaged files, images that show the same, groups on several sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from discern.data.adapters.rows import Row
from discern.data.preparation.duplicates import Cluster, exact_duplicates
from discern.data.preparation.inspecting import Damaged, Inspected


def build_audit(
    dataset: str,
    images: list[Inspected],
    damaged: list[Damaged],
    near: list[Cluster],
    distance: int,
    all_rows: Iterable[Row],
) -> dict[str, Any]:
    """The audit JSON.

    ``duplicates`` are exact, and ``crossing_labels`` counts those whose labels disagree;
    ``near_duplicates`` are ``near``, which contain them. ``all_rows``: also those outside the pool, for
    the groups that are in several official splits.
    """
    exact = exact_duplicates(images)
    return {
        "dataset": dataset,
        "n": len(images),
        "corrupt": [{"image_id": d.row.image_id, "path": d.row.path, "reason": d.reason} for d in damaged],
        "duplicates": exact,
        "crossing_labels": sum(len(cluster["labels"]) > 1 for cluster in exact),
        "near_duplicates": [cluster.record() for cluster in near],
        "near": {
            "hash": "phash",
            "hash_distance": distance,
            "without_hash": sum(image.seen.hash is None for image in images),
            "clusters": len(near),
            "images": sum(len(cluster.members) for cluster in near),
            "largest": max((len(cluster.members) for cluster in near), default=0),
            "crossing_labels": sum(len(cluster.labels) > 1 for cluster in near),
            "crossing_groups": sum(len(cluster.groups) > 1 for cluster in near),
            "crossing_official_splits": sum(len(cluster.official_splits) > 1 for cluster in near),
        },
        "groups": _groups(images, all_rows),
    }


def _groups(images: list[Inspected], all_rows: Iterable[Row]) -> dict[str, Any]:
    """How many groups there are, images without one, and groups that official splits share."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in all_rows:
        if row.group is not None and row.official_split is not None:
            splits[row.group].add(row.official_split)
    known = [image.row.group for image in images if image.row.group is not None]
    return {
        "n": len(set(known)),
        "images_without": len(images) - len(known),
        "in_several_official_splits": {g: sorted(s) for g, s in sorted(splits.items()) if len(s) > 1},
    }
