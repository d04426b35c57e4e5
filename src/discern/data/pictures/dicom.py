"""DICOM images as 8-bit pictures. Needs pydicom, and python-gdcm for compressed pixels: environment `data`.

The order is that of PS3.3: stored values, modality LUT (rescale), VOI LUT or window, inversion of
MONOCHROME1. One frame is read at a time. Overlays, shutters, colour profiles and unequal pixel spacings
are not applied.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from PIL import Image

from discern.data.pictures.containers import frame_index
from discern.data.pictures.suspects import AGAIN, NotDicom, too_large
from discern.data.pictures.windows import (
    Array,
    Curve,
    Stored,
    eight_bit,
    identity,
    linear,
    linear_exact,
    sigmoid,
    straight,
)
from discern.decoding_card import Decoding, Range, Window
from discern.errors import DiscernError, problem

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"

DEFLATED = "1.2.840.10008.1.2.1.99"

#: Bytes of a file in which the transfer syntax stands.
HEAD = 4096

#: The widest pixels that DICOM has, in bytes: what a deflated file may grow to for each allowed pixel.
WIDEST = 8

#: Windows that depend on what values occur, or can; pictures of 8 bits keep their values under these.
OF_DEEP_PICTURES = ("min_max", "percentile", "full_range", "file")


def decode(path: str, rule: Decoding, frame: int | None = None) -> tuple[Image.Image, str]:
    """One frame as 8-bit RGB, by default the one that the rule names, and the mode of the stored values.

    Raises DiscernError, without the path, for a file that holds no image or one that cannot be decoded.
    """
    header = read_header(path, rule.max_pixels)
    index = frame_index(rule.frames if frame is None else frame, _frames(header))
    kind = str(header.get("PhotometricInterpretation", ""))
    if kind not in (*GREY, *COLOUR, PALETTE):
        allowed = [*GREY, *COLOUR, PALETTE]
        raise problem("PhotometricInterpretation", f"'{kind}' cannot be read", allowed=allowed)
    if header.Rows * header.Columns > rule.max_pixels:
        raise too_large(f"{header.Columns} x {header.Rows} pixels", rule.max_pixels)
    values = _pixels(path, header, index)
    if kind == PALETTE:
        return Image.fromarray(_coloured(values, header)), "P"
    if kind in COLOUR:
        return _from_colours(values, header, rule.window)
    if values.ndim != 2:
        raise DiscernError(f"{kind} with an array {values.shape} of pixels")
    grey, window = _stored(values, header, index), rule.window
    if _plain(grey) and window in OF_DEEP_PICTURES and not (window == "file" and grey.header):
        window = Range(low=0, high=255)
    return Image.fromarray(eight_bit(grey, window)).convert("RGB"), _mode(values, grey.limits)


def frames_of(path: str) -> int:
    """Number of frames that the header names."""
    return _frames(read_header(path))


def read_header(path: str, max_pixels: int = Decoding().max_pixels) -> Any:
    """The data set without its pixels. Raises DiscernError if the file is no DICOM or holds no image."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    _check_inflation(path, max_pixels)
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:  # a data set without preamble, or none
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if "SOPClassUID" not in header and "Rows" not in header:
            raise NotDicom("no DICOM file") from None
    if "Rows" not in header or "Columns" not in header:
        what = getattr(header.get("SOPClassUID"), "name", "unknown SOP class")
        raise DiscernError(
            f"DICOM without image ({what})\n  repair: leave the file out by the adapter's pattern"
        )
    return header


def _frames(header: Any) -> int:
    count = header.get("NumberOfFrames") or 1
    try:
        return max(1, int(count))
    except ValueError:
        raise DiscernError(f"NumberOfFrames is '{count}', not a number") from None


def _check_inflation(path: str, max_pixels: int) -> None:
    """A deflated file is inflated as a whole by whoever opens it, so it is measured first."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
        if DEFLATED.encode() not in head or head[128:136] != b"DICM\2\0\0\0":
            return
        file.seek(144 + int.from_bytes(head[140:144], "little"))  # after the file meta information
        limit, inflater = WIDEST * max_pixels, zlib.decompressobj(-zlib.MAX_WBITS)
        while piece := inflater.unconsumed_tail or file.read(2**16):
            limit -= len(inflater.decompress(piece, 2**20))
            if limit < 0:
                raise DiscernError(f"inflates to more than {WIDEST * max_pixels} bytes")


def _pixels(path: str, header: Any, index: int) -> Array:
    """Stored values of one frame: (H, W), or RGB (H, W, 3)."""
    import pydicom
    from pydicom.pixels.utils import pixel_array

    syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    try:
        if syntax and syntax != DEFLATED:
            return pixel_array(path, index=index)
        whole = pydicom.dcmread(path, force=True)
        if not syntax:
            whole.file_meta.TransferSyntaxUID = syntax = _native(whole)
        return pixel_array(whole, index=index)
    except Exception as error:  # decoders, pydicom and NumPy each have their own kinds
        if isinstance(error, AttributeError) and "no pixel data" in str(error).lower():
            raise DiscernError("the header describes an image, but there is no pixel data") from error
        name = getattr(syntax, "name", None) or "unknown"
        first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        reason = f"{first} {'; '.join(others)}".strip()
        what = f"pixels in transfer syntax {name} cannot be decoded ({reason or type(error).__name__})"
        raise DiscernError(f"{what}\n  repair: {AGAIN}") from error


def _native(whole: Any) -> Any:
    """The transfer syntax of a file that does not name it, from how its elements are written."""
    from pydicom import uid

    implicit, little = whole.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _stored(values: Array, header: Any, index: int) -> Stored:
    """Grey values with what the header says of them."""
    return Stored(
        values,
        _limits(values, header),
        _modality(header, index),
        _header_window(header, index),
        inverted=header.PhotometricInterpretation == "MONOCHROME1",
        padding=_padding(header),
    )


def _limits(values: Array, header: Any) -> tuple[int, int] | None:
    if values.dtype.kind == "f":
        return None
    bits = int(header.BitsStored)
    if values.dtype.kind == "i":
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _plain(grey: Stored) -> bool:
    """Whether the values are greys of 8 bits as in other picture files."""
    return grey.limits == (0, 255) and grey.modality is identity


def _mode(values: Array, limits: tuple[int, int] | None) -> str:
    """The Pillow mode that has room for the values."""
    if limits is None:
        return "F"
    if limits == (0, 1):
        return "1"
    return {"uint8": "L", "uint16": "I;16"}.get(values.dtype.name, "I")


def _functional(header: Any, index: int, sequence: str, wanted: str) -> Any:
    """Where ``wanted`` stands: in the frame's functional group, in that of all frames, or in the header."""
    for groups, position in (
        ("PerFrameFunctionalGroupsSequence", index),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = header.get(groups) or []
        inner = items[position].get(sequence) if position < len(items) else None
        if inner and wanted in inner[0]:
            return inner[0]
    return header


def _modality(header: Any, index: int) -> Curve:
    if header.get("ModalityLUTSequence"):
        table, first, _ = _lut(header.ModalityLUTSequence[0], header)
        return lambda values: _looked_up(table, first, values)
    where = _functional(header, index, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = _number(where, "RescaleSlope") or 1.0, _number(where, "RescaleIntercept") or 0.0
    if (slope, intercept) == (1.0, 0.0):
        return identity
    return lambda values: values * slope + intercept


def _header_window(header: Any, index: int) -> Curve | None:
    """The first VOI LUT, or else the first window; None if there is none that can be applied."""
    if header.get("VOILUTSequence"):
        table, first, bits = _lut(header.VOILUTSequence[0], header)
        return lambda values: _looked_up(table, first, values) / (2**bits - 1)
    where = _functional(header, index, "FrameVOILUTSequence", "WindowCenter")
    center, width = _number(where, "WindowCenter"), _number(where, "WindowWidth")
    if center is None or width is None or width <= 0:
        return None
    function = str(where.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return sigmoid(center, width)
    return straight(*(linear_exact if function == "LINEAR_EXACT" else linear)(center, width))


def _number(where: Any, keyword: str) -> float | None:
    """The first value of an element; None if it is absent, empty or not finite."""
    from pydicom.multival import MultiValue

    value = where.get(keyword)
    if isinstance(value, (MultiValue, list)):
        value = value[0] if value else None
    if value is None or value == "":
        return None
    return float(value) if np.isfinite(float(value)) else None


def _padding(header: Any) -> tuple[float, float] | None:
    """First and last stored value that pad the picture."""
    value = _number(header, "PixelPaddingValue")
    if value is None:
        return None
    limit = _number(header, "PixelPaddingRangeLimit")
    ends = [value, value if limit is None else limit]
    if header.get("PixelRepresentation") == 1:  # some scanners write the negative value as an unsigned one
        size = 2 ** int(header.BitsAllocated)
        ends = [end - size if end >= size / 2 else end for end in ends]
    return min(ends), max(ends)


def _lut(item: Any, header: Any) -> tuple[Array, int, int]:
    """Entries of a lookup table, float64, the value that the first stands for, and their bits."""
    entries, first, bits = (int(v) for v in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] else ">"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * (entries or 2**16) else f"{order}u2")
    table = np.atleast_1d(np.asarray(data, dtype=np.float64))[: entries or 2**16]
    return table, first, bits


def _looked_up(table: Array, first: int, values: Array) -> Array:
    """Values below and above the table have its first and last entry."""
    known = np.where(np.isfinite(values), values, first)
    found: Array = table[np.clip(np.round(known - first), 0, len(table) - 1).astype(np.int64)]
    return found


def _coloured(values: Array, header: Any) -> Array:
    """RGB uint8 of a PALETTE COLOR picture."""
    from pydicom.pixels.processing import apply_color_lut

    entries, first, bits = (int(v) for v in header.RedPaletteColorLookupTableDescriptor)
    values = np.clip(values, first, first + (entries or 2**16) - 1)
    colours = apply_color_lut(values, header)[..., :3]
    if colours.dtype == np.uint16:
        colours = colours >> 8 if bits == 16 else colours
    return np.ascontiguousarray(colours.astype(np.uint8))


def _from_colours(values: Array, header: Any, window: Window) -> tuple[Image.Image, str]:
    if values.ndim != 3 or values.shape[-1] != 3:
        raise DiscernError(f"{header.PhotometricInterpretation} with an array {values.shape} of pixels")
    if int(header.BitsStored) == 8:
        return Image.fromarray(np.ascontiguousarray(values.astype(np.uint8))), "RGB"
    seen = eight_bit(Stored(values, _limits(values, header)), window)
    return Image.fromarray(seen), f"RGB;{header.BitsStored}"
