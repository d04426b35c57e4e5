"""Decoded images: every file becomes 8-bit RGB by one stated rule, before any resize.

An encoder must see the same picture whatever the container: the frame is chosen, values of more than
8 bits are windowed, the orientation tag is applied, palettes and transparency are resolved. The card's
``decoding`` is the rule, docs/decoding.md tells it for every format, ``containers`` has the locators of
pictures inside other files. DICOM is decoded here too, but ``render`` does that once, in the preparation.
"""

from __future__ import annotations

import functools
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from discern.data.pictures import deep
from discern.data.pictures.containers import content, file_behind, frame_index, split_frame
from discern.data.pictures.suspects import explained, too_large
from discern.data.pictures.windows import Array, Stored, eight_bit
from discern.decoding_card import Decoding, Range
from discern.errors import DiscernError, problem
from discern.files import sha256_file

STANDARD = Decoding()

#: For masks: a label stays one however few values occur beside it.
MASK = {"window": Range(low=0, high=1), "frames": "first"}

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".ppm", ".pgm")
)

#: What Pillow may be asked to read: its readers of other formats have no use here, and some start programs.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")

DICOM_SUFFIXES = frozenset((".dcm", ".dicom", ".ima"))

#: Suffixes of files that are not DICOM, so that they need not be looked into.
OTHERS = SUFFIXES | {".npz", ".parquet", ".pq", ".nii", ".gz", ".csv"}

#: Beginning of the path of a picture that the preparation made from the data set's files.
MADE = "made:"

ORIENTATION = 0x0112  # EXIF tag; its values 2 to 8 are undone by:
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Pictures:
    """The pictures of one data set: where they lie and by which rule they are decoded.

    ``root`` is the data set's folder, ``made`` that of pictures made from it (paths ``made:...``).
    """

    root: Path
    made: Path
    decoding: Decoding = STANDARD

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> Pictures:
        """The pictures that a manifest with this metadata lists."""
        return cls(
            Path(metadata["root"]), Path(metadata["made"]), Decoding.model_validate(metadata["decoding"])
        )

    def file(self, path: str) -> Path:
        """The file or locator of a manifest's ``path`` or ``mask_path``."""
        return self.made / path[len(MADE) :] if path.startswith(MADE) else self.root / path

    def open(self, path: str) -> Image.Image:
        """The picture as 8-bit RGB; DiscernError naming the file if it is absent, damaged or too large."""
        return self.decode(path)[0]

    def decode(self, path: str) -> tuple[Image.Image, str]:
        """The same, and the Pillow mode of the file."""
        return decode(self.file(path), self.decoding)

    def mask(self, path: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """A mask, bool (H, W): what is at least half white is inside; raises as ``open`` does.

        Of a mask with no values but 0 and 1, and of one of more than 8 bits, 1 and more are inside.
        """
        image, _ = decode(self.file(path), self.decoding.model_copy(update=MASK))
        grey = np.asarray(image.convert("L"))
        return grey >= (1 if grey.max(initial=0) == 1 else 128)

    def sha256(self, path: str) -> str:
        """SHA-256 of the file; of what a locator names, see ``image_sha256``."""
        return image_sha256(self.file(path))


def decode(path: Path | str, rule: Decoding = STANDARD, data: bytes | None = None) -> tuple[Image.Image, str]:
    """The picture at ``path`` (file or locator) as 8-bit RGB, and the Pillow mode of the file.

    Values of more than 8 bits a channel have the modes I;16, I, F, and RGB;16 and the like, for which
    Pillow has no name. ``data``: all bytes of a file that is no DICOM, where they were read already.
    Raises DiscernError naming the file if it is absent, damaged, too large, no picture, or has not the
    values that the rule asks for.
    """
    name = str(path)
    try:
        return _decode(name, rule) if data is None else _from_file(data, rule, None)
    except FileNotFoundError as error:
        raise problem(name, "no such file", repair="fetch the data set again") from error
    except DiscernError as error:
        raise error if str(error).startswith(str(file_behind(name))) else problem(name, str(error)) from error
    except Image.DecompressionBombError as error:
        raise problem(name, str(too_large(str(error), rule.max_pixels))) from error
    except Exception as error:  # Pillow's readers raise a dozen kinds for damaged bytes
        raise explained(name, error) from error


def _decode(name: str, rule: Decoding) -> tuple[Image.Image, str]:
    inner, frame = split_frame(name)
    held = content(inner)
    if isinstance(held, np.ndarray):
        if frame:
            raise DiscernError(f"an array is one picture, it has no frame {frame}")
        return _from_array(held, rule)
    if held is None and is_dicom(inner):
        from discern.data.pictures import dicom

        return dicom.decode(inner, rule, frame)
    return _from_file(inner if held is None else held, rule, frame)


def _from_file(source: str | bytes, rule: Decoding, frame: int | None) -> tuple[Image.Image, str]:
    with _opened(source, rule, frame) as picture:
        mode = picture.mode
        found = deep.read(picture, lambda: _opened(source, rule, frame), rule.window)
        if found is not None:
            image, mode = _from_values(found, rule), found.mode
        else:
            picture.load()
            image = picture
        turn = TURNS.get(_orientation(picture))
    image = _to_rgb(image if turn is None else image.transpose(turn), rule)
    image.info = {}  # an orientation or a transparent colour that is left there would be applied again
    return image, mode


def _opened(source: str | bytes, rule: Decoding, frame: int | None) -> Image.Image:
    """The picture, not loaded, at its frame; its size is checked before anything is decoded."""
    if rule.max_pixels > (Image.MAX_IMAGE_PIXELS or rule.max_pixels):
        Image.MAX_IMAGE_PIXELS = rule.max_pixels  # the card allows what Pillow would refuse
    picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    if picture.format == "TIFF":
        # Pillow would map plain pixels into memory as if they had the sides of the turned picture.
        picture.filename = ""
    try:
        _seek(picture, rule.frames if frame is None else frame)
        if picture.width * picture.height > rule.max_pixels:
            raise too_large(f"{picture.width} x {picture.height} pixels", rule.max_pixels)
    except BaseException:
        picture.close()
        raise
    return picture


def _seek(picture: Image.Image, frames: str | int) -> None:
    if frames in ("first", "all"):  # expanded to locators of single frames where pictures are listed
        return
    count = getattr(picture, "n_frames", 1)
    index = frame_index(frames, count)
    if index:
        picture.seek(index)


def _orientation(picture: Image.Image) -> int:
    """The orientation tag of a loaded picture; 1 (upright) if it has none, or none that can be read."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata do not make the pixels worse
        return 1


def _from_values(found: deep.Deep, rule: Decoding) -> Image.Image:
    image = Image.fromarray(eight_bit(found.stored, rule.window))
    if found.alpha is not None:
        image.putalpha(Image.fromarray(found.alpha))
    return image


def _from_array(values: Array, rule: Decoding) -> tuple[Image.Image, str]:
    """(H, W) or (H, W, C) with C of 1, 3 or 4, the channels also first; bool, whole numbers or floats."""
    shape = values.shape
    if values.ndim == 3 and shape[0] in (1, 3, 4) and shape[-1] not in (1, 3, 4):
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    colours = values.shape[-1] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or colours not in (1, 3, 4) or values.dtype.kind not in "biuf":
        allowed = "(H, W) or (H, W, C) with C of 1, 3 or 4, of bool, whole numbers or floats"
        raise DiscernError(f"array {shape} of {values.dtype} is no picture\n  allowed: {allowed}")
    if values.shape[0] * values.shape[1] > rule.max_pixels:
        raise too_large(f"{values.shape[1]} x {values.shape[0]} pixels", rule.max_pixels)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[colours]
    if values.dtype.kind == "b":
        values, mode = np.where(values, np.uint8(255), np.uint8(0)), "1" if colours == 1 else mode
    if values.dtype == np.uint8:
        return _to_rgb(Image.fromarray(np.ascontiguousarray(values)), rule), mode
    if colours == 4:
        raise DiscernError(f"array {shape} of {values.dtype}: only uint8 can have transparency")
    kind = "F" if values.dtype.kind == "f" else "I;16" if values.dtype == np.uint16 else "I"
    ends = None if kind == "F" else (int(np.iinfo(values.dtype).min), int(np.iinfo(values.dtype).max))
    image = Image.fromarray(eight_bit(Stored(values, ends), rule.window))
    return image.convert("RGB"), kind if colours == 1 else f"RGB;{kind.removeprefix('I;')}"


def _to_rgb(image: Image.Image, rule: Decoding) -> Image.Image:
    """8-bit RGB of an 8-bit picture of any mode."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("La", "RGBa"):  # colours multiplied by alpha
        image = image.convert(image.mode.upper())
    if image.has_transparency_data and rule.transparency != "ignore":
        coloured = image.convert("RGBA")
        below = Image.new("RGBA", coloured.size, rule.transparency)
        return Image.alpha_composite(below, coloured).convert("RGB")
    return image.convert("RGB")


def is_dicom(path: str) -> bool:
    """Whether the file is DICOM by its suffix or, where the suffix is no other picture's, its content."""
    suffix = Path(path).suffix.lower()
    if suffix in DICOM_SUFFIXES or suffix in OTHERS:
        return suffix in DICOM_SUFFIXES
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def frames_of(path: Path | str) -> int:
    """Number of frames of a file or locator, from its headers; 1 if a frame or an array is named.

    Of a JPEG 1: the further pictures that phones and cameras put there are previews.
    """
    name, frame = split_frame(str(path))
    if frame is not None or name.lower().endswith((".jpg", ".jpeg", ".bmp", ".jp2", ".ppm", ".pgm")):
        return 1
    try:
        held = content(name)
        if isinstance(held, np.ndarray):
            return 1
        if held is None and is_dicom(name):
            from discern.data.pictures import dicom

            return dicom.frames_of(name)
        with Image.open(io.BytesIO(held) if held is not None else name, formats=FORMATS) as picture:
            return 1 if picture.format in ("JPEG", "MPO") else int(getattr(picture, "n_frames", 1))
    except DiscernError:
        raise
    except FileNotFoundError as error:
        raise problem(name, "no such file", repair="fetch the data set again") from error
    except Exception as error:
        raise explained(name, error) from error


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of size and pixel bytes of an RGB picture: equal for two encodings of one picture."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def image_sha256(path: Path | str) -> str:
    """SHA-256 of an image file; of an npz member, of its raw array bytes; of bytes in a Parquet file,
    of these; of a frame, of the digest of all and the frame's number."""
    name, frame = split_frame(str(path))
    held = content(name)
    if held is None:
        status = Path(name).stat()
        digest = (
            sha256_file(name) if frame is None else _file_sha256(name, status.st_size, status.st_mtime_ns)
        )
    else:
        digest = hashlib.sha256(held if isinstance(held, bytes) else held.tobytes()).hexdigest()
    return digest if frame is None else hashlib.sha256(f"{digest}#frame[{frame}]".encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _file_sha256(name: str, size: int, modified: int) -> str:
    """Of a file of several frames, which is hashed once for all; ``size`` and ``modified`` tell versions."""
    return sha256_file(name)
