"""Volumes: NIfTI files of one scan each, read whole and checked before any encoder sees them.

The counterpart of ``images`` for volumetric data sets. Intensities are taken as the file's own scaling
gives them and must be Hounsfield units; a file cannot tell whether they are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from discern.errors import DiscernError, problem

SUFFIXES = (".nii.gz", ".nii")

#: Voxels of one volume; a file that claims more is refused.
MAX_VOXELS = 2_000_000_000


def is_volume(path: Path | str) -> bool:
    """Whether the file's name is that of a volume."""
    return str(path).lower().endswith(SUFFIXES)


def without_suffix(path: str) -> str:
    """The path without ``.nii`` or ``.nii.gz``; other paths as they are."""
    suffix = next((s for s in SUFFIXES if path.lower().endswith(s)), "")
    return path[: len(path) - len(suffix)]


def open_volume(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Voxels as stored, float32 (I, J, K), and the affine, float64 (4, 4), from indices to millimetres.

    Raises DiscernError naming the file if it is absent, damaged, not three-dimensional, without
    a usable affine, or holds values that are not finite.
    """
    try:
        voxels, affine = _read(Path(path))
    except DiscernError:
        raise
    except FileNotFoundError as error:
        raise problem(str(path), "no such file", repair="fetch the data set again") from error
    except Exception as error:  # nibabel, gzip and zlib each have their own for damaged bytes
        raise problem(
            str(path),
            f"cannot be read as a NIfTI volume ({error})",
            repair="fetch the file again; if it is damaged at its source, name it in the card's `drop`",
        ) from error
    if not np.isfinite(voxels).all():
        raise problem(str(path), f"{np.count_nonzero(~np.isfinite(voxels))} voxels are not finite")
    return voxels, affine


def mode(voxels: np.ndarray) -> str:
    """What the manifest's column ``mode`` says of a volume: ``volume 512x512x120``."""
    return f"volume {'x'.join(map(str, voxels.shape))}"


def voxel_digest(voxels: np.ndarray, affine: np.ndarray) -> str:
    """SHA-256 of shape, affine and voxels: equal for two encodings of one volume."""
    known = hashlib.sha256(f"{voxels.shape}:{np.round(affine, 3).tolist()}:".encode())
    known.update(np.ascontiguousarray(voxels).tobytes())
    return known.hexdigest()


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise problem(
            str(path),
            "is a volume, and this environment lacks nibabel",
            repair="name an environment that has it, such as `volumes`, in the model card",
        ) from error
    stored = nibabel.load(path)
    if not isinstance(stored, nibabel.Nifti1Image):  # its subclass is NIfTI-2
        raise problem(str(path), f"holds {type(stored).__name__}, not a NIfTI volume")
    shape = stored.shape
    while len(shape) > 3 and shape[-1] == 1:  # a time axis of one
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 2:
        raise problem(str(path), f"has shape {stored.shape}, a volume has three axes")
    if np.prod(shape) > MAX_VOXELS:
        raise problem(str(path), f"{np.prod(shape)} voxels, more than {MAX_VOXELS}")
    affine = np.asarray(stored.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise problem(str(path), "its affine gives no voxel spacing, so it cannot be resampled")
    voxels = np.asarray(stored.get_fdata(dtype=np.float32, caching="unchanged")).reshape(shape)
    return voxels, affine
