"""Why a file that should be a picture is none: what a person meets when a download went wrong."""

from __future__ import annotations

import re

from PIL import UnidentifiedImageError

from discern.data.pictures.containers import file_behind
from discern.errors import DiscernError, problem

AGAIN = "fetch the file again; if it is damaged at its source, name it in the card's `drop`"
SIGNED_IN = "download the data set again, signed in where its site asks for that"

#: Beginnings of files that no reader takes, in small letters, what they are, and what to do.
BEGINNINGS = (
    (b"<!doctype html", "a web page, not a picture", SIGNED_IN),
    (b"<html", "a web page, not a picture", SIGNED_IN),
    (b"<?xml", "XML text, not a picture", SIGNED_IN),
    (b"{", "text, not a picture", SIGNED_IN),
    (b"version https://git-lfs", "a pointer of Git LFS, not the picture", "run `git lfs pull` in its folder"),
    (b"pk\x03\x04", "a zip archive, not a picture", "unpack it"),
    (b"\x1f\x8b", "a gzip file, not a picture", "unpack it"),
    (b"%pdf", "a PDF document, not a picture", "store its pictures as PNG"),
    (b"\x93numpy", "a NumPy array, not a picture", "store it in an npz archive"),
    (b"ii*\0", "a TIFF file that is cut short, or of a layout such as 64-bit floats that is not read", AGAIN),
    (b"mm\0*", "a TIFF file that is cut short, or of a layout such as 64-bit floats that is not read", AGAIN),
)


class NotDicom(Exception):
    """A file that is called DICOM and is not."""


def explained(name: str, error: Exception) -> DiscernError:
    """The message for a file or locator that could not be read because of ``error``."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    # Pillow prints where bytes lie in memory; records of the same files shall be equal.
    first = re.sub(r" <_io\.BytesIO object at 0x[0-9a-f]+>", "", first)
    seen, repair = first, AGAIN
    # Bytes inside another file have no beginning of their own to look at.
    if isinstance(error, (UnidentifiedImageError, NotDicom)) and str(file_behind(name)) == name:
        seen, repair = _what_it_is(name) or (first, AGAIN)
    return problem(name, f"cannot be decoded ({seen})", repair=repair)


def _what_it_is(name: str) -> tuple[str, str] | None:
    """What the file is, and the repair; None if its beginning tells nothing."""
    with open(name, "rb") as file:
        head = file.read(512)
    if not head:
        return "the file is empty, 0 bytes", AGAIN
    if not head.strip(b"\0"):
        return "the file begins with zeros, as an interrupted download leaves it", AGAIN
    if head[128:132] == b"DICM":
        return "it is DICOM", "give the file the suffix .dcm, or none"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginning, what, repair in BEGINNINGS:
        if start.startswith(beginning):
            return f"it is {what}", repair
    return None


def too_large(what: str, max_pixels: int) -> DiscernError:
    """The message, without path, for a picture of ``what`` size."""
    repair = "set decoding.max_pixels in the card if such pictures are meant"
    return DiscernError(f"{what}, more than {max_pixels} in all\n  repair: {repair}")
