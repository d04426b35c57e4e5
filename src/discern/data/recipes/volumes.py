"""Scans in one orientation: NIfTI files and DICOM folders as arrays with x to the right, y to the
front and z up, and the slices of the three planes as they are usually shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Plane -> array axis that it is perpendicular to.
AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class Volume:
    """A scan. ``voxels`` is indexed [x, y, z] (right, front, up); ``spacing`` in mm."""

    name: str
    voxels: np.ndarray
    spacing: tuple[float, float, float]

    def plane(self, plane: str, index: int) -> np.ndarray:
        """Slice as a picture (rows, columns): front or top upwards, the patient's right on the left
        (axial, coronal), front on the left (sagittal)."""
        return np.moveaxis(self.voxels, AXIS[plane], 0)[index].T[::-1, ::-1]

    def plane_spacing(self, plane: str) -> tuple[float, float]:
        """Row and column spacing of a slice, in mm."""
        first, second = (s for axis, s in enumerate(self.spacing) if axis != AXIS[plane])
        return second, first

    def place(self, plane: str, first: int, second: int) -> tuple[int, int]:
        """Row and column, in ``plane()``, of the two array indices that vary in the slice."""
        sizes = [n for axis, n in enumerate(self.voxels.shape) if axis != AXIS[plane]]
        return sizes[1] - 1 - second, sizes[0] - 1 - first

    def count(self, plane: str) -> int:
        """Number of slices of a plane."""
        return int(self.voxels.shape[AXIS[plane]])

    def step(self, plane: str) -> float:
        """Distance of neighbouring slices of a plane, in mm."""
        return self.spacing[AXIS[plane]]


def read_nifti(path: Path, name: str) -> Volume:
    """Read a NIfTI file in its own data type."""
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
    x, y, z = (float(s) for s in image.header.get_zooms()[:3])
    return Volume(name, np.asarray(image.dataobj), (x, y, z))


def read_dicom(folder: Path, name: str) -> Volume:
    """Read an axial DICOM series as Hounsfield units, float32."""
    import pydicom

    slices = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    rows, columns = (float(s) for s in slices[0].PixelSpacing)
    height = float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])
    stack = np.stack(
        [s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices], axis=-1
    )
    # DICOM columns run to the patient's left and rows to the back: both are turned round.
    voxels = stack.transpose(1, 0, 2)[::-1, ::-1].astype(np.float32)
    return Volume(name, voxels, (columns, rows, height))


def to_grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Window ``low``..``high`` of the intensities to uint8 0..255."""
    scaled = (np.asarray(values, dtype=np.float32) - low) / (high - low)
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
