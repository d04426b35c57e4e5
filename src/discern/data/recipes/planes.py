"""Slices of three heads in three planes: which plane is it?

An average T1 brain (MNI), an average T1 head and a CT brain template, with enough jitter that the
outline's place and size do not give the plane away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from discern.data.recipes.geometry import Jitter, draw_jitter, patch
from discern.data.recipes.samples import Sample, slab
from discern.data.recipes.volumes import Volume, read_nifti, to_grey

PIXELS = 160
EVERY = 3.0  # mm between slices
LEAST = 0.12  # foreground, as a share of the plane's largest
FOREGROUND = 30  # grey level of 255 above which a pixel is foreground
JITTER = {"shift": 0.08, "turn": 25.0, "zoom": 0.20}
CT_WINDOW = (-30.0, 120.0)  # Hounsfield units
CT_BLACK = 5.0  # Hounsfield units and below: the template's empty space is 0, which the window shows grey

MNI = "nilearn/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
MEAN_HEAD = "pydeface/mean_reg2mean.nii.gz"
CT_BRAIN = "totalsegmentator/ct_brain_atlas_1mm.nii.gz"


def samples(sources: Path, options: dict[str, Any], seed: int) -> Iterator[Sample]:
    """Jittered slices of the three volumes; ``options`` has no keys."""
    rng = np.random.default_rng(seed)
    for volume in (
        grey_t1(sources / MNI, "mni_t1"),
        grey_t1(sources / MEAN_HEAD, "mean_head"),
        _grey_ct(sources / CT_BRAIN),
    ):
        # One field for all planes: the size of the head must not tell them apart.
        side = max(n * s for n, s in zip(volume.voxels.shape, volume.spacing, strict=True))
        for plane in ("axial", "coronal", "sagittal"):
            for index in filled_slices(volume, plane, EVERY, LEAST):
                picture = volume.plane(plane, index)
                spacing = volume.plane_spacing(plane)
                cut = centred(picture, spacing, side, PIXELS, draw_jitter(rng, **JITTER))
                yield Sample(
                    name=f"{plane}_{volume.name}_{index:03d}",
                    label=plane,
                    picture=np.round(cut).astype(np.uint8),
                    volume=volume.name,
                    group=f"{volume.name}/{plane}/{slab(index, volume.step(plane)):02d}",
                )


def grey_t1(path: Path, name: str) -> Volume:
    """A T1 volume as uint8, white at the 99.5th percentile."""
    volume = read_nifti(path, name)
    high = float(np.percentile(volume.voxels, 99.5))
    return Volume(name, to_grey(volume.voxels, 0.0, high), volume.spacing)


def _grey_ct(path: Path) -> Volume:
    volume = read_nifti(path, "ct_brain")
    grey = to_grey(volume.voxels, *CT_WINDOW)
    grey[volume.voxels <= CT_BLACK] = 0
    return Volume("ct_brain", grey, volume.spacing)


def filled_slices(volume: Volume, plane: str, every: float, least: float) -> list[int]:
    """One slice every ``every`` mm, of those whose foreground exceeds ``least`` of the largest."""
    step = max(1, round(every / volume.step(plane)))
    area = [np.count_nonzero(volume.plane(plane, index) > FOREGROUND) for index in range(volume.count(plane))]
    return [index for index in range(0, len(area), step) if area[index] > least * max(area)]


def centred(
    picture: np.ndarray,
    spacing: tuple[float, float],
    side: float | None,
    pixels: int,
    jitter: Jitter | None = None,
) -> np.ndarray:
    """Square of ``side`` mm around the slice's middle as (pixels, pixels), black outside.

    None: the side that holds the whole slice.
    """
    side = side or max(n * s for n, s in zip(picture.shape, spacing, strict=True))
    middle = ((picture.shape[0] - 1) / 2, (picture.shape[1] - 1) / 2)
    return patch(picture, spacing, middle, side, pixels, jitter)
