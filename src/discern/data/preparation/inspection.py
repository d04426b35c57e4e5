"""What is to be known of one image: that it decodes, how large it is, and what tells it from others.

Runs in many processes at once, so nothing is imported here but what decoding needs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from discern.data.adapters.rows import Row
from discern.data.pictures.containers import file_behind
from discern.data.pictures.images import MADE, SUFFIXES, Pictures, decode, pixel_digest
from discern.data.pictures.render import render
from discern.data.pictures.volumes import is_volume, mode, open_volume, voxel_digest
from discern.data.preparation.hashing import Strip, flat, perceptual_hashes, shrink
from discern.data.preparation.plain_jpeg import decode_plain
from discern.errors import DiscernError, problem
from discern.fingerprint import code_digest, digest

DECODERS = ("imagehash", "nibabel", "numpy", "pillow", "pydicom", "scipy")


class Seen(NamedTuple):
    """One image that decodes. Sizes in pixels, of a volume in voxels along its first two axes.

    ``path`` and ``mask_path`` are those of the manifest: of pictures that the preparation made, if it made
    some. ``sources`` and ``made`` are size and time of the files read and made, to see a change.
    """

    path: str
    mask_path: str | None
    sources: str
    made: str
    sha256: str  # of the file
    width: int
    height: int
    mode: str
    small: int  # digest of the shrunken picture, 64 bits: equal for equal pictures
    hash: int | None  # perceptual, 64 bits; null for flat pictures and volumes
    voxels: str | None  # digest of a decoded volume


def sources_of(row: Row) -> tuple[str, ...]:
    """Paths of what an image is made of."""
    return (row.path, *row.mask_paths)


def stamp(pictures: Pictures, paths: tuple[str, ...]) -> str:
    """Size and time of change of the files behind paths or locators, as one text; '' if one is absent."""
    stamps = []
    try:
        for path in paths:
            # A path object for each of all images would take longer than asking the disk.
            plain = "#" not in path and not path.startswith(MADE)
            status = os.stat(os.path.join(pictures.root, path) if plain else file_behind(pictures.file(path)))
            stamps.append(f"{status.st_size}:{status.st_mtime_ns}")
    except OSError:
        return ""
    return ",".join(stamps)


@cache
def version() -> str:
    """Digest of the code and the libraries that inspect: what they found is of no use to others."""
    libraries = {}
    for name in DECODERS:
        try:
            libraries[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            libraries[name] = "absent"
    return digest([code_digest(Path(__file__)), libraries])


def inspect_rows(pictures: Pictures, rows: list[Row]) -> list[Seen | str]:
    """Decode each picture with its masks, or each volume; the reason where one cannot be used.

    Of the rows id and paths are read, and nothing else.
    """
    found: list[Seen | str] = []
    strip = Strip(len(rows))
    looked: dict[int, Seen] = {}
    for row in rows:
        try:
            seen, small = _inspect(pictures, row)
        except DiscernError as error:
            found.append(str(error).splitlines()[0])
            continue
        if small is not None:
            looked[len(found)] = seen
            strip.add(small)
        found.append(seen)
    if looked:
        pixels = strip.pixels()
        hashes = zip(looked, pixels, perceptual_hashes(pixels).tolist(), flat(pixels).tolist(), strict=True)
        for place, one, hash_, is_flat in hashes:
            digest = int.from_bytes(hashlib.blake2b(one.tobytes(), digest_size=8).digest())
            found[place] = looked[place]._replace(small=digest, hash=None if is_flat else hash_)
    return found


def pixel_digests(pictures: Pictures, rows: list[Row]) -> list[str]:
    """Digest of the decoded pictures of rows as the manifest lists them."""
    return [pixel_digest(pictures.open(row.path)) for row in rows]


def _inspect(pictures: Pictures, row: Row) -> tuple[Seen, Image.Image | None]:
    """What is seen, still without hashes, and the shrunken picture of which they are made."""
    if not row.mask_paths and os.path.splitext(row.path)[1].lower() in SUFFIXES:
        return _inspect_file(pictures, row)
    sources = stamp(pictures, sources_of(row))  # before reading: a file changed meanwhile is read again
    if is_volume(row.path):
        return _inspect_volume(pictures, row, sources), None
    shown = render(row, pictures)
    image, mode = pictures.decode(shown.path)
    masks = shown.mask_paths
    for path in masks:
        height, width = pictures.mask(path).shape
        if (width, height) != image.size:
            raise problem(path, f"mask of {width, height} pixels for a picture of {image.size}")
    new = tuple(path for path in sources_of(shown) if path not in sources_of(row))
    made = stamp(pictures, new) if new else ""
    mask = masks[0] if masks else None
    sha256 = pictures.sha256(shown.path)
    return Seen(shown.path, mask, sources, made, sha256, *image.size, mode, 0, None, None), shrink(image)


def _inspect_file(pictures: Pictures, row: Row) -> tuple[Seen, Image.Image]:
    """The same for one picture in a file of its own, as most are: it is read once."""
    file = os.path.join(pictures.root, row.path)
    try:
        with open(file, "rb", buffering=0) as handle:
            status = os.fstat(handle.fileno())
            data = handle.read()
    except FileNotFoundError as error:
        raise problem(file, "no such file", repair="fetch the data set again") from error
    except OSError as error:
        raise problem(file, f"cannot be read ({error})") from error
    image, mode = decode_plain(data, pictures.decoding.max_pixels) or decode(file, pictures.decoding, data)
    sha256 = hashlib.sha256(data).hexdigest()
    sources = f"{status.st_size}:{status.st_mtime_ns}"
    return Seen(row.path, None, sources, "", sha256, *image.size, mode, 0, None, None), shrink(image)


def _inspect_volume(pictures: Pictures, row: Row, sources: str) -> Seen:
    voxels, affine = open_volume(pictures.file(row.path))
    width, height, _ = voxels.shape
    sha256, pixels = pictures.sha256(row.path), voxel_digest(voxels, affine)
    return Seen(row.path, None, sources, "", sha256, width, height, mode(voxels), 0, None, pixels)
