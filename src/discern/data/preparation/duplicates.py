"""Clusters of images that show the same: with equal pixels, or with nearly equal perceptual hashes.

Images are connected where their pixels are equal or their hashes differ in few bits, and a cluster is
what is connected, so its ends may differ by more. A perceptual hash sees coarse structure alone: it finds
a picture that was resized, recompressed or annotated, and neighbouring slices of a scan; it cannot tell
different patients whose pictures have one composition. Flat pictures and volumes are compared exactly.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from discern.data.preparation.hamming import components, diameter
from discern.data.preparation.inspecting import Inspected


@dataclass(frozen=True)
class Cluster:
    """Two images or more that show the same, by image id."""

    members: list[Inspected]
    exact: bool  # all pixels are equal
    max_distance: int  # bits between the hashes of any two members

    @property
    def name(self) -> str:
        """The smallest image id in it."""
        return self.members[0].row.image_id

    @property
    def labels(self) -> list[str]:
        """Class names in it."""
        return sorted({image.row.label_name for image in self.members})

    @property
    def groups(self) -> list[str]:
        """Patients or the like in it, of the images that have one."""
        return sorted({image.row.group for image in self.members if image.row.group is not None})

    @property
    def official_splits(self) -> list[str]:
        """Parts of the data set's own split in it, of the images that are in one."""
        splits = {image.row.official_split for image in self.members}
        return sorted(split for split in splits if split is not None)

    def record(self) -> dict[str, Any]:
        """As the audit file has it."""
        return {
            "cluster": self.name,
            "kind": "exact" if self.exact else "near",
            "max_distance": self.max_distance,
            "image_ids": [image.row.image_id for image in self.members],
            "labels": self.labels,
            "groups": self.groups,
            "official_splits": self.official_splits,
        }


def exact_duplicates(images: list[Inspected]) -> list[dict[str, Any]]:
    """Clusters of images with equal pixels, in order of their first image id.

    A cluster is named ``sha256`` if the files are equal too and ``pixels`` if only the decoded
    pictures are; ``labels`` are the class names in it.
    """
    clusters: dict[str, list[Inspected]] = defaultdict(list)
    for image in images:
        clusters[image.pixels].append(image)
    found = []
    for pixels, members in clusters.items():
        if len(members) > 1:
            files = {member.seen.sha256 for member in members}
            name = {"sha256": files.pop()} if len(files) == 1 else {"pixels": pixels}
            ids = sorted(member.row.image_id for member in members)
            labels = sorted({member.row.label_name for member in members})
            found.append({**name, "image_ids": ids, "labels": labels})
    return sorted(found, key=lambda cluster: cluster["image_ids"])


def clusters(images: list[Inspected], distance: int) -> list[Cluster]:
    """All clusters, in order of their names; hashes within ``distance`` bits are connected.

    ``images`` sorted by image id.
    """
    of_pixels: dict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        of_pixels[image.pixels].append(index)
    # Equal pictures are one node; of these, only those with a hash can be connected to others.
    nodes = list(of_pixels.values())
    hashes = [images[node[0]].seen.hash for node in nodes]
    hashed = [i for i, value in enumerate(hashes) if value is not None]
    joined: dict[int, list[int]] = defaultdict(list)
    labels = components(np.array([hashes[i] for i in hashed], dtype=np.uint64), distance)
    for i, label in zip(hashed, labels.tolist(), strict=True):
        joined[label].append(i)
    parts = [*joined.values(), *([i] for i, value in enumerate(hashes) if value is None)]
    found = []
    for part in parts:
        indices = sorted(index for i in part for index in nodes[i])
        if len(indices) > 1:
            widest = diameter(np.array([hashes[i] for i in part], dtype=np.uint64)) if len(part) > 1 else 0
            found.append(Cluster([images[index] for index in indices], len(part) == 1, widest))
    return sorted(found, key=lambda cluster: cluster.name)
