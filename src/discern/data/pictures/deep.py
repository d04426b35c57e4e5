"""Picture files of more than 8 bits a channel, with their full values.

Pillow keeps the values of deep greys, but of deep colours only the high bytes, and of some files not even
those. What can be read in full is read in full; the rest is refused, because a window needs the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from discern.data.pictures.windows import Array, Stored
from discern.decoding_card import Window
from discern.errors import DiscernError

Picture = Image.Image

#: Formats that can hold more than 8 bits a channel.
DEEP = frozenset(("PNG", "TIFF", "JPEG2000", "PPM"))

# Tags of TIFF, and some of their values.
BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339
WHITE_IS_ZERO, SEPARATE, UNSIGNED, SIGNED = 0, 2, 1, 2

#: The other byte of each value: what Pillow reads as low byte from the opposite byte order. Files that
#: libtiff decodes have the machine's own order (N), which is little-endian on all supported machines.
OTHER_BYTE = {"B": "L", "L": "B", "N": "B"}


@dataclass(frozen=True)
class Deep:
    """Values of a deep picture; ``alpha`` uint8 (H, W), or None if all of it is opaque."""

    stored: Stored
    alpha: Array | None
    mode: str  # Pillow's, or of what Pillow has no mode for: RGB;16, RGBA;16, LA;16


def read(picture: Picture, again: Callable[[], Picture], window: Window) -> Deep | None:
    """The values of an opened, not yet loaded picture; None if it has no more than 8 bits a channel.

    ``again`` opens the same picture, at the same frame, a second time. Raises DiscernError for pictures
    whose values Pillow cannot give in full.
    """
    if picture.format not in DEEP:
        return None
    raw = _raw(picture)
    if picture.mode == "F" or picture.mode.startswith("I"):
        return _grey(picture, raw)
    if picture.format == "TIFF":
        bits, planes = _tag(picture, BITS, 1), _tag(picture, PLANES, 1)
        if picture.mode == "L" and _tag(picture, SAMPLE_FORMAT, UNSIGNED) == SIGNED:
            picture.load()
            return Deep(Stored(np.asarray(picture).view(np.int8), (-128, 127)), None, "L")
        if bits > 8 and planes == SEPARATE:  # Pillow takes their bytes for pixels
            what = f"TIFF of {bits} bits a channel in separate planes, which is not read"
            raise DiscernError(f"{what}\n  repair: store its channels together")
    if re.fullmatch(r"(RGB|RGBX|RGBA);16[BLN]", raw):
        return _colour(picture, again(), raw)
    if raw == "LA;16B":
        return _grey_with_alpha(picture)
    if (";16" in raw or _reduced(picture)) and window != "full_range":
        what = f"{picture.format} of more than 8 bits a channel ({raw or picture.mode})"
        repair = "state window: full_range in the card, or store it as 16-bit PNG"
        raise DiscernError(f"{what}, which can be read with window full_range only\n  repair: {repair}")
    return None


def _raw(picture: Picture) -> str:
    """Pillow's name of how pixels are laid out in the file, such as ``RGB;16B``."""
    tiles = getattr(picture, "tile", None)
    arguments: Any = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _tag(picture: Picture, tag: int, default: int) -> int:
    """A TIFF tag, of several values the first."""
    value = picture.tag_v2.get(tag, default)  # type: ignore[attr-defined]
    return int(value[0] if isinstance(value, tuple) else value)


def _grey(picture: Picture, raw: str) -> Deep:
    """Modes I;16, I and F."""
    if picture.format == "TIFF":
        return _grey_tiff(picture, raw)
    bits, signed = _precision(picture) if picture.format == "JPEG2000" else (16, False)
    maximum = _maximum(picture) or 65535
    key = picture.info.get("transparency")
    picture.load()
    values = np.asarray(picture)
    alpha = None if key is None else np.where(values == key, 0, 255).astype(np.uint8)
    if maximum != 65535:  # Pillow scales PGM to 16 bits
        values = np.round(values * (maximum / 65535)).astype(np.int32)
    if bits != 16 or signed:  # and moves JPEG 2000 up to 16 bits from 0
        values = (values.astype(np.int32) >> (16 - bits)) - (2 ** (bits - 1) if signed else 0)
        maximum = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    return Deep(Stored(values, (maximum - 2**bits + 1 if signed else 0, maximum)), alpha, picture.mode)


def _grey_tiff(picture: Picture, raw: str) -> Deep:
    mode, inverted = picture.mode, _tag(picture, PHOTOMETRIC, 1) == WHITE_IS_ZERO
    bits, kind = _tag(picture, BITS, 1), _tag(picture, SAMPLE_FORMAT, UNSIGNED)
    if picture.tile[0][0] == "libtiff":  # type: ignore[attr-defined]
        # libtiff has put the bytes into the machine's order, which Pillow overlooks for I and F.
        _relabel(picture, re.sub(r";(16|32)B", r";\1N", raw))
    picture.load()
    values = np.asarray(picture)
    if mode == "F":
        return Deep(Stored(values, None, inverted=inverted), None, mode)
    if kind == SIGNED:
        values = values.astype(np.int16) if bits == 16 else values
        limits = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    else:
        values = values.view(np.uint32) if bits == 32 else values
        limits = (0, 2**bits - 1)
    return Deep(Stored(values, limits, inverted=inverted), None, mode)


def _colour(picture: Picture, second: Picture, raw: str) -> Deep:
    """High and low bytes are read one after the other."""
    other = raw[:-1] + OTHER_BYTE[raw[-1]]
    with second:
        _relabel(second, other)
        second.load()
        low = np.asarray(second)
    key = picture.info.get("transparency")
    picture.load()
    values = np.asarray(picture).astype(np.uint16) << 8 | low
    colour = np.ascontiguousarray(values[..., :3])
    alpha = None
    if picture.mode == "RGBA":
        alpha = _eight(values[..., 3])
    elif key is not None:
        alpha = np.where((colour == key).all(axis=-1), 0, 255).astype(np.uint8)
    return Deep(Stored(colour, (0, 65535)), alpha, f"{picture.mode};16")


def _grey_with_alpha(picture: Picture) -> Deep:
    """Grey and alpha of two bytes each fill the four bytes of an RGBA pixel."""
    _relabel(picture, "RGBA")
    picture.load()
    values = np.asarray(picture).astype(np.uint16)
    grey, alpha = (values[..., i] << 8 | values[..., i + 1] for i in (0, 2))
    return Deep(Stored(grey, (0, 65535)), _eight(alpha), "LA;16")


def _eight(alpha: Array) -> Array:
    return np.round(alpha / 257).astype(np.uint8)


def _relabel(picture: Picture, raw: str) -> None:
    """Let Pillow take the pixels for laid out as ``raw``."""
    tiles = []
    for tile in picture.tile:  # type: ignore[attr-defined]
        arguments = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
        parts = (*tile[:3], arguments)
        tiles.append(parts if type(tile) is tuple else type(tile)(*parts))  # plain tuples before Pillow 11
    picture.tile = tiles  # type: ignore[attr-defined]


def _reduced(picture: Picture) -> bool:
    """Whether Pillow reads colours of more than 8 bits as 8 bits without saying so."""
    if picture.format == "JPEG2000":
        return _precision(picture)[0] > 8
    return _maximum(picture) > 255


def _maximum(picture: Picture) -> int:
    """Maximum that a PPM or PGM file states, if Pillow scales its values to 8 or 16 bits; else 0."""
    if picture.format != "PPM":
        return 0
    arguments = picture.tile[0][3]  # type: ignore[attr-defined]
    return arguments[1] if isinstance(arguments, tuple) and isinstance(arguments[1], int) else 0


def _precision(picture: Picture) -> tuple[int, bool]:
    """Bits of the first channel of a JPEG 2000 file and whether it is signed, from its SIZ segment."""
    file = picture.fp  # type: ignore[attr-defined]
    place = file.tell()
    file.seek(0)
    head = file.read(2**20)
    file.seek(place)
    start = head.find(b"\xff\x4f\xff\x51")
    if not 0 <= start < len(head) - 42:
        raise DiscernError("JPEG 2000 whose bits a channel are not found")
    return (head[start + 42] & 0x7F) + 1, bool(head[start + 42] & 0x80)
