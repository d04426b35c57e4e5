"""What is odd about a data set: files that do not decode, and exact duplicates by bytes and by pixels."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.data.adapters import Row
from discern.data.images import decode, image_sha256, pixel_digest
from discern.data.volumes import is_volume, mode, open_volume, voxel_digest
from discern.errors import DiscernError, problem


@dataclass(frozen=True)
class Inspected:
    """A row whose picture or volume decodes; sizes in pixels, of a volume along its first two axes."""

    row: Row
    sha256: str  # of the file
    pixels: str  # digest of the decoded picture or volume
    width: int
    height: int
    mode: str


@dataclass(frozen=True)
class Damaged:
    """A row whose picture, mask or boxes cannot be used, and why."""

    row: Row
    reason: str


def inspect(root: Path, row: Row) -> Inspected | Damaged:
    """Decode one picture with its mask, or one volume; never raises for what is wrong with them."""
    try:
        if is_volume(row.path):
            return _inspect_volume(root, row)
        image, mode = decode(root / row.path)
        if row.mask_path is not None:
            mask, _ = decode(root / row.mask_path)
            if mask.size != image.size:
                raise problem(row.mask_path, f"mask of {mask.size} pixels for a picture of {image.size}")
        for x0, y0, x1, y1 in row.boxes or []:
            if x0 < 0 or y0 < 0 or x1 > image.width or y1 > image.height:
                raise problem(row.path, f"box {x0, y0, x1, y1} outside the picture of {image.size}")
        sha256 = image_sha256(root, row.path)
    except DiscernError as error:
        return Damaged(row, str(error).splitlines()[0])
    return Inspected(row, sha256, pixel_digest(image), image.width, image.height, mode)


def _inspect_volume(root: Path, row: Row) -> Inspected:
    if row.mask_path is not None or row.boxes is not None:
        raise problem(row.path, "is a volume, whose mask or boxes would not be used")
    voxels, affine = open_volume(root / row.path)
    width, height, _ = voxels.shape
    sha256 = image_sha256(root, row.path)
    return Inspected(row, sha256, voxel_digest(voxels, affine), width, height, mode(voxels))


def duplicates(images: list[Inspected]) -> list[dict[str, Any]]:
    """Clusters of pictures with equal pixels, in order of their first image id.

    A cluster is named ``sha256`` if the files are equal too and ``pixels`` if only the decoded
    pictures are; ``labels`` are the class names in it.
    """
    clusters: dict[str, list[Inspected]] = defaultdict(list)
    for image in images:
        clusters[image.pixels].append(image)
    found = []
    for pixels, members in clusters.items():
        if len(members) > 1:
            files = {member.sha256 for member in members}
            name = {"sha256": files.pop()} if len(files) == 1 else {"pixels": pixels}
            ids = sorted(member.row.image_id for member in members)
            labels = sorted({member.row.label_name for member in members})
            found.append({**name, "image_ids": ids, "labels": labels})
    return sorted(found, key=lambda cluster: cluster["image_ids"])


def build_audit(dataset: str, images: list[Inspected], damaged: list[Damaged]) -> dict[str, Any]:
    """The audit JSON; ``crossing_labels`` counts duplicate clusters whose labels disagree."""
    clusters = duplicates(images)
    return {
        "dataset": dataset,
        "n": len(images),
        "corrupt": [{"image_id": d.row.image_id, "path": d.row.path, "reason": d.reason} for d in damaged],
        "duplicates": clusters,
        "crossing_labels": sum(len(cluster["labels"]) > 1 for cluster in clusters),
    }
