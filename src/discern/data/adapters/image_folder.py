"""A folder per class, or file names that carry the class; images at any depth below it."""

from __future__ import annotations

import itertools
import logging
import posixpath
import re
from collections import Counter, defaultdict

from discern.adapter_card import ImageFolder
from discern.data.adapters.folders import Found, Part, read_parts
from discern.data.adapters.rows import Request, Scan, examples, without_picture_suffix
from discern.data.pictures.images import SUFFIXES
from discern.data.pictures.volumes import is_volume

log = logging.getLogger("discern")


def read(adapter: ImageFolder, request: Request) -> Scan:
    """Images below the folder, or below one folder for each official split."""
    masks = re.compile(adapter.masks.replace("{stem}", "(?P<the_image>(?s:.+))")) if adapter.masks else None
    return read_parts(adapter, request, lambda part: _read(part, masks))


def _read(part: Part, masks: re.Pattern[str] | None) -> None:
    pattern = re.compile(part.adapter.pattern)
    ignored: Counter[str] = Counter()
    found, skipped = 0, []
    for _, files in itertools.groupby(part.files(), key=lambda file: file.folders):
        images = []
        for file in files:
            if _is_image(file.name, part.request.volumes):
                images.append(file)
            else:
                ignored[posixpath.splitext(file.name)[1].lower()] += 1
        images, masks_of = _paired(images, masks, part)
        for image in images:
            match = pattern.search(image.name)
            if match is None:
                skipped.append(image.path)
                continue
            found += 1
            mine = masks_of.get(without_picture_suffix(image.name), ()) if masks_of else ()
            part.add(image, match, mask_paths=tuple(mine))
    part.collector.left_out += skipped
    if not found:
        raise part.nothing(ignored, len(skipped), "images")
    if ignored:
        kinds = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in ignored.most_common(5))
        log.info("%s: files that are no images are not read: %s", part.folder or part.request.root, kinds)


def _is_image(name: str, volumes: bool) -> bool:
    return is_volume(name) if volumes else posixpath.splitext(name)[1].lower() in SUFFIXES


def _paired(
    files: list[Found], masks: re.Pattern[str] | None, part: Part
) -> tuple[list[Found], dict[str, list[str]]]:
    """Images of one folder, and the masks of each by its name without suffix."""
    masks_of: dict[str, list[str]] = defaultdict(list)
    if masks is None:
        return files, masks_of
    images = []
    for file in files:
        if match := masks.fullmatch(file.name):
            masks_of[match["the_image"]].append(file.path)
        else:
            images.append(file)
    alone = masks_of.keys() - {without_picture_suffix(image.name) for image in images}
    if orphans := sorted(path for stem in alone for path in masks_of[stem]):
        log.warning("%d masks without an image are left out: %s", len(orphans), examples(orphans))
        part.collector.left_out += orphans
    return images, masks_of
