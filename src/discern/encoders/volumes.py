"""One explicit transform from volume to encoder input, spelt out in the model card.

The authors' pipelines disagree on where resampled voxels lie and on whether values are clipped before or
after; both are fields of the card. Only NumPy computes here, so every environment sees the same voxels.
Interpolation is linear along each axis in turn, which equals trilinear interpolation; voxels that the
crop takes away are never computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from discern.model_card import VolumePreprocess


def apply(voxels: np.ndarray, affine: np.ndarray, v: VolumePreprocess) -> np.ndarray:
    """Voxels (I, J, K) in Hounsfield units with their affine (4, 4), in mm -> float32 (1, *v.size).

    The affine maps voxel indices to millimetres to the right, front and up, as in NIfTI. Oblique volumes
    are turned to the nearest axes, not resampled to them.
    """
    volume, spacing = orient(voxels, affine, v.orientation)
    result = np.asarray(volume, dtype=np.float32)
    if v.window_first:
        result = np.clip(result, *v.window)
    padding = []
    for axis, wanted in enumerate(v.size):
        places = positions(result.shape[axis], spacing[axis], v.spacing[axis], v.grid)
        start = max((len(places) - wanted) // 2, 0)
        places = places[start : start + wanted]
        before = (wanted - len(places)) // 2
        padding.append((before, wanted - len(places) - before))
        result = interpolate(result, places, axis)
    result = scale(np.clip(result, *v.window), v)
    return np.pad(result, padding, constant_values=v.fill)[None]


def orient(
    voxels: np.ndarray, affine: np.ndarray, orientation: str
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The volume (a view) with its axes in the order and direction of ``orientation``, and its spacing."""
    from nibabel import orientations as known

    orientations: Any = known  # has no annotations
    stored = orientations.io_orientation(affine)
    wanted = orientations.axcodes2ornt(tuple(orientation))
    turned = orientations.apply_orientation(voxels, orientations.ornt_transform(stored, wanted))
    lengths = np.sqrt((np.asarray(affine, dtype=np.float64)[:3, :3] ** 2).sum(axis=0))
    # Row i of an orientation: the world axis along which voxel axis i runs.
    axis_of = {int(world): axis for axis, world in enumerate(stored[:, 0])}
    x, y, z = (float(lengths[axis_of[int(world)]]) for world in wanted[:, 0])
    return turned, (x, y, z)


def positions(count: int, spacing: float, target: float, grid: str) -> np.ndarray:
    """Where the resampled voxels of one axis lie, in indices of the ``count`` old voxels; float64 (n,)."""
    if grid == "edges":
        n = max(int(count * (spacing / target)), 1)
        return np.clip((np.arange(n) + 0.5) * (count / n) - 0.5, 0, count - 1)
    n = round((count - 1) * spacing / target + 1)  # halves to even, as MONAI does
    return np.clip(np.arange(n) * (target / spacing), 0, count - 1)


def interpolate(volume: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation of float32 (I, J, K) along one axis at ``places`` (n,)."""
    low = np.floor(places).astype(np.intp)
    weight = (places - low).astype(np.float32)
    if not weight.any():
        return volume.take(low, axis)
    shape = [1, 1, 1]
    shape[axis] = len(places)
    high = np.minimum(low + 1, volume.shape[axis] - 1)
    result = volume.take(high, axis)
    below = volume.take(low, axis)
    result -= below
    result *= weight.reshape(shape)
    result += below
    return result


def scale(values: np.ndarray, v: VolumePreprocess) -> np.ndarray:
    """Map the window to ``v.scaled``, linearly, in float32."""
    (low, high), (bottom, top) = v.window, v.scaled
    factor = np.float32((top - bottom) / (high - low))
    return np.asarray((values - np.float32(low)) * factor + np.float32(bottom), dtype=np.float32)
