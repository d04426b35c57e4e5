"""DICOM files at any depth: label, group and volume from their headers, folders or names.

Headers alone are read, which costs a few kilobytes of each file. What makes a file one is its content:
archives of hospitals have no suffixes.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pydicom
from pydicom.datadict import dictionary_description, keyword_dict, tag_for_keyword

from discern.adapter_card import DicomFolder
from discern.data.adapters.folders import Found, Part, read_parts
from discern.data.adapters.rows import Request, Scan
from discern.data.pictures.images import DICOM_SUFFIXES
from discern.errors import did_you_mean, listed, problem

log = logging.getLogger("discern")

#: Headers read at the same time: waiting for a slow disk or network is most of the work.
READERS = 8

#: An index of other files, not an image.
DIRECTORY = "1.2.840.10008.1.3.10"

#: What stands for the value of a file that is damaged or only called DICOM.
UNREADABLE = "cannot be read"

Header = dict[str, str]


def read(adapter: DicomFolder, request: Request) -> Scan:
    """Images below the folder, or below one folder for each official split."""
    keywords = {"label": adapter.label, "group": adapter.group, "volume": adapter.volume}
    keywords = {column: keyword for column, keyword in keywords.items() if keyword}
    for column, keyword in keywords.items():
        if tag_for_keyword(keyword) is None:
            hint = did_you_mean(keyword, keyword_dict)
            raise problem(f"adapter.{column}", f"'{keyword}' is no DICOM keyword{hint}")
    return read_parts(adapter, request, lambda part: _read(part, keywords))


def _read(part: Part, keywords: dict[str, str]) -> None:
    pattern = re.compile(part.adapter.pattern)
    ignored: Counter[str] = Counter()
    skipped: list[str] = []
    images: list[tuple[Found, re.Match[str], Header]] = []
    for file, header in _headers(part, list(keywords.values())):
        if header is None:
            ignored[PurePosixPath(file.name).suffix.lower()] += 1
        elif match := pattern.search(file.name):
            images.append((file, match, header))
        else:
            skipped.append(file.path)
    part.collector.left_out += skipped
    if not images:
        raise part.nothing(ignored, len(skipped), "DICOM images")
    if ignored:
        kinds = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in ignored.most_common(5))
        log.info(
            "%s: files that are no DICOM images are not read: %s", part.folder or part.request.root, kinds
        )
    read = {column: keyword for column, keyword in keywords.items() if _is_read(part, column, images)}
    mistakes = []
    for file, match, header in images:
        named = {name for name, value in match.groupdict().items() if value}
        for column in read.keys() - named - ({"label"} if "" in part.adapter.labels else set()):
            keyword = read[column]
            if not header.get(keyword) and (header or column == "label"):
                mistakes.append(f"{file.path}: {_what(keyword)} {'has no value' if header else UNREADABLE}")
        part.add(file, match, **{column: header.get(keyword) or None for column, keyword in read.items()})
    if mistakes:
        raise listed(
            str(part.request.root / part.folder),
            f"{len(mistakes)} header fields that the card reads are not there",
            mistakes,
            repair="name another keyword in the card (or none: group: ''), or leave files out by its pattern",
        )


def _is_read(part: Part, column: str, images: list[tuple[Found, re.Match[str], Header]]) -> bool:
    """Whether a column is read: what the card did not choose may be lacking everywhere."""
    keyword = getattr(part.adapter, column)
    if keyword != DicomFolder.model_fields[column].default or any(h.get(keyword) for *_, h in images):
        return True
    log.warning("no file has a %s, so each image's %s is unknown", keyword, column)
    return False


def _what(keyword: str) -> str:
    return f"{keyword} ({dictionary_description(keyword)})"


def _headers(part: Part, keywords: list[str]) -> Iterator[tuple[Found, Header | None]]:
    """Every file with its header's values; None for what is no image, {} for what cannot be read."""
    with ThreadPoolExecutor(READERS) as pool:
        files = list(part.files())
        yield from zip(files, pool.map(partial(_header, part.request.root, keywords), files), strict=True)


def _header(root: Path, keywords: list[str], file: Found) -> Header | None:
    named = PurePosixPath(file.name).suffix.lower() in DICOM_SUFFIXES
    tags = ["SOPClassUID", "Rows", *keywords]
    try:
        if file.name.upper() == "DICOMDIR" or not (named or _has_magic(root / file.path)):
            return None
        # Old files lack the preamble, which a suffix makes up for.
        stored = pydicom.dcmread(root / file.path, stop_before_pixels=True, force=named, specific_tags=tags)
        if "SOPClassUID" not in stored and "Rows" not in stored:
            return {}
        if "Rows" not in stored or stored.get("SOPClassUID") == DIRECTORY:  # reports, plans, indices
            return None
        return {"Rows": "", **{keyword: _text(stored.get(keyword)) for keyword in keywords}}
    except Exception:  # pydicom has a dozen kinds for damaged bytes; the decoder names the file
        return {}


def _has_magic(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(132)[128:] == b"DICM"


def _text(value: Any) -> str:
    if value is None:
        return ""
    several = isinstance(value, pydicom.multival.MultiValue)
    return "\\".join(str(part) for part in value).strip() if several else str(value).strip()
