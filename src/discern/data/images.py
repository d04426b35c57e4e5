"""Decoded images: every file becomes 8-bit RGB by one stated rule, before any resize.

An encoder must see the same picture whatever the container: the orientation tag is applied, palettes
and transparency are composited onto black, CMYK is converted, and greyscale of more than 8 bits is
scaled from its own minimum..maximum to 0..255. A picture inside a NumPy archive has the locator
``file.npz#array[index]`` and is read in the same way.
"""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from discern.contracts import sha256_file
from discern.errors import DiscernError, problem

#: Pixels of one picture; a file that claims more is refused (a decompression bomb, or a whole slide).
MAX_PIXELS = 89_478_485

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".ppm", ".pgm")
)

LOCATOR = re.compile(r"(?P<file>.+\.npz)#(?P<array>\w+)\[(?P<index>\d+)\]")

_arrays: dict[tuple[str, str, int], np.ndarray] = {}
_lock = threading.Lock()


def open_rgb(path: Path | str) -> Image.Image:
    """The picture at ``path`` (file or npz locator) as 8-bit RGB.

    Raises DiscernError naming the file if it is absent, truncated, too large or no picture.
    """
    return decode(path)[0]


def probe(path: Path | str) -> tuple[int, int, str]:
    """Width and height in pixels as ``open_rgb`` gives them, and the Pillow mode of the file.

    Decodes the whole picture, so a truncated file raises DiscernError here already.
    """
    image, mode = decode(path)
    return image.width, image.height, mode


def decode(path: Path | str) -> tuple[Image.Image, str]:
    """RGB picture and Pillow mode of the file; see ``open_rgb``."""
    try:
        if match := LOCATOR.fullmatch(str(path)):
            stored = Image.fromarray(_member(match))
            return _to_rgb(stored), stored.mode
        with Image.open(path) as stored:
            if stored.width * stored.height > MAX_PIXELS:
                raise problem(
                    str(path), f"{stored.width} x {stored.height} pixels, more than {MAX_PIXELS} in all"
                )
            return _to_rgb(ImageOps.exif_transpose(stored)), stored.mode
    except DiscernError:
        raise
    except FileNotFoundError as error:
        raise problem(str(path), "no such file", repair="fetch the data set again") from error
    except Exception as error:  # Pillow's readers raise a dozen kinds for damaged bytes
        raise problem(
            str(path),
            f"cannot be decoded ({error})",
            repair="fetch the file again; if it is damaged at its source, name it in the card's `drop`",
        ) from error


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of size and pixel bytes of an RGB picture: equal for two encodings of one picture."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def image_sha256(root: Path | str, path: str) -> str:
    """SHA-256 of an image file; of an npz member, of its raw array bytes."""
    if match := LOCATOR.fullmatch(str(Path(root) / path)):
        return hashlib.sha256(_member(match).tobytes()).hexdigest()
    return sha256_file(Path(root) / path)


def npz_array(file: Path | str, array: str) -> np.ndarray:
    """One array of an npz archive, read once per process: its members cannot be memory-mapped.

    Raises DiscernError naming the file and, for an unknown array, those that exist.
    """
    file = Path(file)
    if not file.is_file():
        raise problem(str(file), "no such file", repair="fetch the data set again")
    key = (str(file), array, file.stat().st_mtime_ns)
    with _lock:
        if key not in _arrays:
            try:
                with np.load(file, allow_pickle=False) as archive:
                    names = archive.files
                    found = archive[array] if array in names else None
            except Exception as error:  # zip, zlib and NumPy header errors alike
                raise problem(
                    str(file), f"damaged npz archive ({error})", repair="fetch the file again"
                ) from error
            if found is None:
                raise problem(str(file), f"has no array '{array}'", allowed=names)
            _arrays[key] = found
        return _arrays[key]


def _member(match: re.Match[str]) -> np.ndarray:
    images = npz_array(match["file"], match["array"])
    index = int(match["index"])
    if index >= len(images):
        raise problem(match["file"], f"{match['array']} holds {len(images)} images, none at {index}")
    return np.ascontiguousarray(images[index])


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_stretch(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    return image.convert("RGB")


def _stretch(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Minimum..maximum of the finite values -> 0..255; a constant picture and non-finite values -> 0."""
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = values[finite].min(), values[finite].max()
    scaled = (np.where(finite, values, low) - low) / (high - low or 1.0)
    return np.round(scaled * 255).astype(np.uint8)
