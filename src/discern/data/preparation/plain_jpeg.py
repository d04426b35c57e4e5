"""JPEG files as nearly all are, decoded without the reading of metadata that costs as much as a thumbnail.

Pillow reads every segment of a header in Python, for tables and tags that the inspection does not need.
Here its decoder is given the file at once. That is done only where the header holds nothing that could
change the picture or its meaning; for all others, and for damaged files, the answer is None, and the
caller reads them, and words what is wrong with them, in the ordinary way.
"""

from __future__ import annotations

from PIL import Image

SOI, SOS = b"\xff\xd8", 0xDA
FRAMES = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended and progressive
TABLES = 0xDB  # of quantization
COMMENT, HUFFMAN, RESTART, JFIF, PROFILE = 0xFE, 0xC4, 0xDD, 0xE0, 0xE2
MODES = {1: "L", 3: "RGB"}


def decode_plain(data: bytes, max_pixels: int) -> tuple[Image.Image, str] | None:
    """The same as ``images.decode``: 8-bit RGB and the file's mode; None if it is not plain, or not whole.

    ``data``: the bytes of a file of any format, of which pictures with more than ``max_pixels`` pixels are
    none of this function's.
    """
    frame = _frame(data)
    if frame is None:
        return None
    mode, width, height = frame
    if not 0 < width * height <= min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels):
        return None
    try:
        image = Image.frombytes(mode, (width, height), data, "jpeg", mode, "")
    except Exception:  # Pillow's decoders raise several kinds, and the ordinary way tells them apart
        return None
    return (image if mode == "RGB" else image.convert("RGB")), mode


def _frame(data: bytes) -> tuple[str, int, int] | None:
    """Mode, width and height of a header that has every segment in its place and none that matters."""
    if data[:2] != SOI:
        return None
    found, place, end = None, 2, len(data)
    while place + 4 <= end and data[place] == 0xFF:
        marker = data[place + 1]
        first, after = place + 4, place + 2 + (data[place + 2] << 8 | data[place + 3])
        if after < first or after > end:
            return None
        if marker == SOS:
            return found
        if marker in FRAMES:
            if found is not None or after - first < 6:
                return None
            layers = data[first + 5]
            if data[first] != 8 or layers not in MODES or after - first != 6 + 3 * layers:
                return None
            height, width = data[first + 1] << 8 | data[first + 2], data[first + 3] << 8 | data[first + 4]
            found = MODES[layers], width, height
        elif not _harmless(marker, data[first:after]):
            return None
        place = after
    return None


def _harmless(marker: int, segment: bytes) -> bool:
    """Whether Pillow makes nothing of a segment but what it writes down."""
    if marker in (HUFFMAN, RESTART, COMMENT):
        return True
    if marker == TABLES:
        return _whole_tables(segment)
    if marker == JFIF:
        return segment.startswith(b"JFIF\0") and len(segment) >= 14
    return marker == PROFILE and segment.startswith(b"ICC_PROFILE\0") and len(segment) > 14


def _whole_tables(segment: bytes) -> bool:
    place = 0
    while place < len(segment):
        place += 65 if segment[place] < 16 else 129
    return place == len(segment)
