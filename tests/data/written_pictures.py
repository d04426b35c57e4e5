"""Picture files that Pillow cannot write, from their specifications: 16-bit PNG, TIFF, PPM."""

import struct
import zlib

import numpy as np

PNG_KIND = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> colour type


def png16(path, values, extra=b""):
    """16-bit PNG of (H, W) or (H, W, 2 to 4); ``extra``: further chunks before the pixels."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    rows = values.astype(">u2").reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 16, PNG_KIND[channels], 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path


def chunk(name, content):
    """One chunk of a PNG."""
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def tiff(path, values, order="<", deflate=False, planar=False, **tags):
    """TIFF of one strip (or one a plane) of (H, W) or (H, W, C); ``tags``: t258=(16, 16, 16) and so on."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    bits = values.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    planes = [values[..., i] for i in range(channels)] if planar else [values]
    strips = [plane.astype(values.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    places = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    entries = {
        256: width, 257: height, 258: (bits,) * channels, 259: 8 if deflate else 1,
        262: 2 if channels >= 3 else 1, 273: tuple(places), 277: channels, 278: height,
        279: tuple(map(len, strips)), 284: 2 if planar else 1, 339: (kind,) * channels,
    }  # fmt: skip
    entries |= {int(name[1:]): value for name, value in tags.items()}
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    start = 8 + len(body)
    table, beyond = struct.pack(order + "H", len(entries)), b""
    for tag, value in sorted(entries.items()):
        numbers = value if isinstance(value, tuple) else (value,)
        letter, code = ("I", 4) if tag in (273, 279) else ("H", 3)
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            place = start + 2 + 12 * len(entries) + 4 + len(beyond)
            beyond += packed
            packed = struct.pack(order + "I", place)
        table += struct.pack(order + "HHI", tag, code, len(numbers)) + packed.ljust(4, b"\0")
    mark = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    path.write_bytes(mark + body + table + b"\0" * 4 + beyond)
    return path


def full_range(values):
    """8-bit values of 16-bit ones that fill their type, in float64."""
    return np.round(values / 257)
