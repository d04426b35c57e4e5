"""Pictures that the preparation makes once, so that no later environment needs a reader of its own.

``expand`` takes files of several frames apart, ``render`` writes one DICOM image as 8-bit PNG and merges
the masks of an image that has several. A made picture carries a digest of what it was made from and of
this code; one that is up to date is left, so a killed preparation goes on where it was.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from discern.data.adapters.rows import Row
from discern.data.pictures.containers import file_behind, split_frame
from discern.data.pictures.images import MADE, Pictures, frames_of, is_dicom
from discern.errors import DiscernError, problem
from discern.files import atomic
from discern.fingerprint import code_digest

#: Folder of the merged masks, in that of the made pictures.
MASKS = "masks"

#: Bytes that one part of a made picture's name may have; file systems allow 255 with the suffixes.
NAME_BYTES = 200

#: Keyword of the digest in a PNG's text.
KEY = "discern"


def expand(rows: list[Row], pictures: Pictures) -> list[Row]:
    """Rows with one for each frame, where the card's rule is ``frames: all``.

    A file of n > 1 frames becomes rows ``<id>#0`` to ``<id>#<n-1>`` that share label, group, masks and
    boxes; their ``volume`` is the file's id, unless the row has one. Files that cannot be read stay rows,
    for the inspection to name.
    """
    if pictures.decoding.frames != "all":
        return rows
    return [part for row in rows for part in _frames(row, pictures)]


def _frames(row: Row, pictures: Pictures) -> list[Row]:
    try:
        count = frames_of(pictures.file(row.path))
    except DiscernError:
        return [row]
    if count == 1:
        return [row]
    volume = row.volume or row.image_id
    return [
        replace(row, image_id=f"{row.image_id}#{k}", path=f"{row.path}#frame[{k}]", volume=volume)
        for k in range(count)
    ]


def render(row: Row, pictures: Pictures) -> Row:
    """The row with made pictures in place of DICOM files and of several masks; often the row itself.

    May be called for different rows at the same time, also by several processes. Raises DiscernError
    naming the file that cannot be decoded, or the masks of one image that differ in size.
    """
    path, masks = row.path, row.mask_paths
    if _dicom(path, pictures):
        path = MADE + made_name(row.image_id)
        _write_picture(row.path, path, pictures)
    if len(masks) > 1 or any(_dicom(mask, pictures) for mask in masks):
        merged = f"{MADE}{MASKS}/{made_name(row.image_id)}"
        _write_mask(masks, merged, pictures)
        masks = (merged,)
    changed = (path, masks) != (row.path, row.mask_paths)
    return replace(row, path=path, mask_paths=masks) if changed else row


def made_name(image_id: str) -> str:
    """The path, below the folder of made pictures, of an image's PNG: its id wherever that can be a path.

    Parts that are too long, empty, hidden or unprintable, that would leave the folder, or that could
    meet another image's are shortened and carry a digest of the whole id.
    """
    parts = image_id.split("/")
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    last = len(parts) - 1
    return "/".join(_part(part, i, i == last, digest) for i, part in enumerate(parts)) + ".png"


def _part(part: str, place: int, last: bool, digest: str) -> str:
    size = len(part.encode("utf-8", "surrogatepass"))
    folder_of_another = not last and (part.lower().endswith(".png") or (place == 0 and part == MASKS))
    if part.isprintable() and size <= NAME_BYTES and part[:1] not in ("", ".") and not folder_of_another:
        return part
    clean = "".join(c if c.isprintable() else "_" for c in part).lstrip(".")
    short = clean.encode("utf-8", "replace")[: NAME_BYTES - 20].decode("utf-8", "ignore")
    return f"{short}-{digest}"


def _dicom(path: str, pictures: Pictures) -> bool:
    if path.startswith(MADE):
        return False
    inner, _ = split_frame(str(pictures.file(path)))
    try:
        return str(file_behind(inner)) == inner and is_dicom(inner)
    except OSError:  # the inspection tells of absent files
        return False


def _write_picture(path: str, made: str, pictures: Pictures) -> None:
    key = _key([path], pictures)
    if _up_to_date(pictures.file(made), key):
        return
    image, mode = pictures.decode(path)
    colour = mode.startswith(("RGB", "P"))
    _write(image if colour else image.getchannel(0), pictures.file(made), key)


def _write_mask(masks: tuple[str, ...], made: str, pictures: Pictures) -> None:
    key = _key(masks, pictures)
    if _up_to_date(pictures.file(made), key):
        return
    union = pictures.mask(masks[0])
    for path in masks[1:]:
        mask = pictures.mask(path)
        if mask.shape != union.shape:
            sizes = [f"{m.shape[1]} x {m.shape[0]}" for m in (mask, union)]
            where = str(pictures.file(path))
            raise problem(where, f"mask of {sizes[0]} pixels, another of the same image has {sizes[1]}")
        union = union | mask
    _write(Image.fromarray(np.where(union, np.uint8(255), np.uint8(0))), pictures.file(made), key)


def _write(image: Image.Image, target: Path, key: str) -> None:
    text = PngInfo()
    text.add_text(KEY, key)
    with atomic(target) as temporary:
        image.save(temporary, "PNG", pnginfo=text, compress_level=1)  # speed: they are read a few times


def _key(paths: Iterable[str], pictures: Pictures) -> str:
    """Digest of everything that the made picture depends on."""
    known: list[object] = [_code(), pictures.decoding.model_dump(mode="json")]
    for path in paths:
        try:
            status = file_behind(pictures.file(path)).stat()
        except OSError as error:
            what = "no such file"
            raise problem(str(pictures.file(path)), what, repair="fetch the data set again") from error
        known.append([path, status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@functools.cache
def _code() -> str:
    return code_digest(__file__)


def _up_to_date(file: Path, key: str) -> bool:
    try:
        with Image.open(file, formats=("PNG",)) as picture:
            return picture.info.get(KEY) == key
    except OSError:  # absent, or not a picture any more
        return False
