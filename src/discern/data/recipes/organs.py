"""Organ patches from CT (patients A and B) or MR (patient D), with the organ's mask.

Around points deep inside each organ a patch of 96 mm is cut from the axial slice, with jitter. The
masks are the output of the program in whose package they come (TotalSegmentator), not human labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from discern.data.recipes.geometry import draw_jitter, patch
from discern.data.recipes.samples import Sample, slab
from discern.data.recipes.volumes import Volume, read_dicom, read_nifti, to_grey
from discern.errors import problem

SIDE = 96.0  # mm
PIXELS = 96
MIN_AREA = 250.0  # mm2 of the organ in the slice
MIN_DEPTH = 6.0  # mm from the point to the organ's edge, in the slice
APART = 30.0  # mm between points of one slice
POINTS = 3  # per class and slice
JITTER = {"shift": 0.10, "turn": 20.0, "zoom": 0.20}
WINDOW = (-160.0, 240.0)  # Hounsfield units
FEWEST = 15  # an MR class with fewer patches is left out

#: Class -> numbers in the masks: class_map["total"] and ["total_mr"] of TotalSegmentator 2.18.0.
CT = {
    "back_muscle": [86, 87],
    "colon": [20],
    "gluteal_muscle": list(range(80, 86)),
    "hip_bone": [77, 78],
    "iliopsoas": [88, 89],
    "kidney": [2, 3],
    "liver": [5],
    "sacrum": [25],
    "small_bowel": [18],
    "spleen": [1],
    "stomach": [6],
    "urinary_bladder": [21],
    "vertebra": list(range(26, 51)),
}
MR = {
    "back_muscle": [46, 47],
    "colon": [15],
    "kidney": [2, 3],
    "liver": [5],
    "spleen": [1],
    "stomach": [6],
    "vertebra": [19],
}


def samples(sources: Path, options: dict[str, Any], seed: int) -> Iterator[Sample]:
    """Patches of ``options["modality"]``: "ct" (13 classes) or "mr" (7 classes)."""
    folder = sources / "totalsegmentator"
    modality = options.get("modality")
    if modality == "ct":
        scans = [
            (
                read_nifti(folder / "example_ct.nii.gz", "ct_a"),
                read_nifti(folder / "example_seg_fast_force_split.nii.gz", "ct_a"),
                60,
            ),
            (
                read_dicom(folder / "example_ct_dicom", "ct_b"),
                read_nifti(folder / "example_seg_dicom.nii.gz", "ct_b"),
                30,
            ),
        ]
        classes, fewest = CT, 1
    elif modality == "mr":
        scan = read_nifti(folder / "example_mr_sm.nii.gz", "mr_d")
        scans = [(scan, read_nifti(folder / "example_seg_mr.nii.gz", "mr_d"), 40)]
        classes, fewest = MR, FEWEST
    else:
        raise problem("source.options.modality", f"found {modality!r}", allowed=["ct", "mr"])
    rng = np.random.default_rng(seed)
    for volume, organs, most in scans:
        if volume.voxels.shape != organs.voxels.shape:
            raise problem(volume.name, "scan and mask differ in shape")
        window = WINDOW if modality == "ct" else (0.0, float(np.percentile(volume.voxels, 99.5)))
        grey = Volume(volume.name, to_grey(volume.voxels, *window), volume.spacing)
        for label, numbers in classes.items():
            member = np.isin(np.arange(256), numbers)  # a table: isin on all voxels is ten times slower
            mask = Volume(volume.name, member[organs.voxels], organs.spacing)
            points = _points(mask)
            if len(points) > most:
                points = [points[i] for i in sorted(rng.choice(len(points), most, replace=False))]
            if len(points) >= fewest:
                yield from _patches(grey, mask, label, points, rng)


def _points(mask: Volume) -> list[tuple[int, int, int, int]]:
    """(slice, rank in the slice, x, y) of the points deepest inside the organ."""
    result = []
    for z in range(mask.count("axial")):
        inside = mask.voxels[:, :, z]
        if inside.sum() * mask.spacing[0] * mask.spacing[1] < MIN_AREA:
            continue
        xs, ys = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        # A margin of one pixel: the border of the scan counts as the organ's edge.
        cut = np.pad(inside[xs[0] : xs[-1] + 1, ys[0] : ys[-1] + 1], 1)
        depth = distance_transform_edt(cut, sampling=mask.spacing[:2])
        across, along = np.indices(depth.shape)
        for rank in range(POINTS):
            x, y = np.unravel_index(int(depth.argmax()), depth.shape)
            if depth[x, y] < MIN_DEPTH:
                break
            result.append((z, rank, int(x + xs[0] - 1), int(y + ys[0] - 1)))
            distance = np.hypot((across - x) * mask.spacing[0], (along - y) * mask.spacing[1])
            depth[distance < APART] = 0
    return result


def _patches(
    grey: Volume,
    mask: Volume,
    label: str,
    points: list[tuple[int, int, int, int]],
    rng: np.random.Generator,
) -> Iterator[Sample]:
    spacing = grey.plane_spacing("axial")
    for z, rank, x, y in points:
        centre = grey.place("axial", x, y)
        jitter = draw_jitter(rng, **JITTER)
        cut = patch(grey.plane("axial", z), spacing, centre, SIDE, PIXELS, jitter)
        inside = patch(mask.plane("axial", z), spacing, centre, SIDE, PIXELS, jitter, nearest=True)
        yield Sample(
            name=f"{label}_{grey.name}_z{z:03d}_{rank}",
            label=label,
            picture=np.round(cut).astype(np.uint8),
            volume=grey.name,
            group=f"{grey.name}/z{slab(z, grey.step('axial')):02d}",
            mask=inside > 0.5,
        )
