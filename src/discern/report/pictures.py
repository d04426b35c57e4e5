"""Pictures inside the page: as data addresses, made smaller until they fit their share of bytes."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from discern.data.pictures.images import Pictures
from discern.data.pictures.volumes import is_volume
from discern.errors import DiscernError

#: Share of the page's bytes that one picture of each kind may take, and its upper bound in bytes.
KINDS = {"map": (1.0, 60_000), "grid": (2.5, 150_000), "rise": (4.0, 280_000)}
PAGE_BYTES = 10_500_000  # before base64, which adds a third
CELL_BYTES = 120_000  # large studies: readable pictures matter more than a small page
STRIPS, PER_STRIP, THUMBNAIL = 6, 4, 112  # clusters a data set, pictures a cluster, pixels
STEPS = ((1500, 82), (1200, 78), (1000, 72), (800, 66), (640, 60), (520, 50))  # width in pixels, quality


@dataclass(frozen=True)
class Picture:
    """A picture ready to be placed: data address and size in pixels."""

    source: str
    width: int
    height: int


def limits(counts: dict[str, int], cells: int) -> dict[str, int]:
    """Bytes allowed per picture of each kind, so that the page stays within its budget."""
    weight = sum(KINDS[kind][0] * count for kind, count in counts.items())
    unit = max(PAGE_BYTES, CELL_BYTES * cells) / max(weight, 1)
    return {kind: min(bound, int(share * unit)) for kind, (share, bound) in KINDS.items()}


def embed(path: Path, limit: int) -> Picture | None:
    """Picture file -> data address of at most about ``limit`` bytes, or None if it cannot be read.

    Small files are kept as they are; larger ones become WebP of falling width and quality.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if len(content) <= limit:
                kind = (image.format or "PNG").lower()
                return _picture(content, kind, image.size)
            rgb = image.convert("RGB")
    except OSError:
        return None
    for width, quality in STEPS:
        small = rgb
        if rgb.width > width:
            size = (width, max(1, round(rgb.height * width / rgb.width)))
            small = rgb.resize(size, Image.Resampling.LANCZOS)
        out = io.BytesIO()
        small.save(out, "WEBP", quality=quality, method=4)
        if out.tell() <= limit:
            break
    return _picture(out.getvalue(), "webp", small.size)


def _picture(content: bytes, kind: str, size: tuple[int, int]) -> Picture:
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *size)


@dataclass(frozen=True)
class Strip:
    """Small pictures of one cluster side by side, with their image ids and words below."""

    pictures: list[Picture]
    image_ids: list[str]
    words: str


def strips(
    clusters: Iterable[tuple[list[str], list[str], str]], about: dict[str, Any], root: Path
) -> list[Strip]:
    """The first clusters (paths of a manifest, image ids, words) whose pictures can be read.

    ``about``: the manifest's metadata. Volumes and files that are gone make no strip.
    """
    try:
        places = {name: str(root / about[name]) for name in ("root", "made")}
        store = Pictures.of(about | places)
    except (KeyError, ValueError):
        return []
    result: list[Strip] = []
    # Each try may decode large pictures: a folder that is gone is not asked for a thousand of them.
    for paths, image_ids, words in itertools.islice(clusters, 4 * STRIPS):
        if len(result) == STRIPS:
            break
        if any(is_volume(path) for path in paths):
            continue
        try:
            pictures = [_thumbnail(store.open(path)) for path in paths[:PER_STRIP]]
        except DiscernError:
            continue
        result.append(Strip(pictures, image_ids, words))
    return result


def _thumbnail(image: Image.Image) -> Picture:
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "WEBP", quality=78)
    return _picture(out.getvalue(), "webp", image.size)
