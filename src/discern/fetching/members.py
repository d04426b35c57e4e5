"""What an archive's members may be called, and what they must not be."""

from __future__ import annotations

import itertools
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from discern.errors import problem

LINKED = "is a link or device, refused"
FILE_TYPE = 0o170000
REGULAR = 0o100000
ENCRYPTED = 0x1
UTF8 = 0x800

#: Bytes of one part of a name, on all usual disks.
LONGEST = 255

#: Bytes of what describes one member of a tar beside its header: long names, and times of high precision.
MOST_WORDS = 1 << 20
WORDS = (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class BoundedTarInfo(tarfile.TarInfo):
    """A member of a tar whose description does not fill the memory: it is read as a whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in WORDS and self.type != tarfile.GNUTYPE_SPARSE and self.size > MOST_WORDS:
            raise problem(str(archive.name), f"a name or description of {self.size} bytes, refused")
        return super()._proc_member(archive)  # type: ignore[misc]


def quoted(name: str) -> str:
    """A name for a message: in quotes, on one line, not longer than a line or two."""
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}..."
    return f"'{name}'" if name.isprintable() else ascii(name)


@dataclass(frozen=True)
class Member:
    """One member that is no folder; ``name`` with forward slashes, as it is shown and extracted."""

    index: int  # among the archive's entries
    name: str
    size: int  # bytes, as declared
    refused: str = ""  # why this kind of member is not extracted
    skipped: int = 0  # leading parts of the name that are not part of its place

    def below(self, start: PurePosixPath) -> Member:
        """The member with its place taken relative to the folder ``start``."""
        return replace(self, skipped=len(start.parts))

    @cached_property
    def place(self) -> PurePosixPath:
        """Where it comes to lie."""
        return PurePosixPath(*PurePosixPath(self.name).parts[self.skipped :])


def zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """Members of a zip in its order. Programs on Windows write back-slashes, which no zip may have."""
    for index, entry in enumerate(archive.infolist()):
        name = _zip_name(entry).replace("\\", "/")
        if name.endswith("/"):
            continue
        kind = entry.external_attr >> 16 & FILE_TYPE
        refused = LINKED if kind not in (0, REGULAR) else ""
        if entry.flag_bits & ENCRYPTED:
            refused = "is encrypted: unpack the archive with its password and point to the folder"
        yield Member(index, name, entry.file_size, refused)


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """The name; many programs write UTF-8 without saying so, which is then read as code page 437."""
    if entry.flag_bits & UTF8 or entry.filename.isascii():
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename


def tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    """Members of a tar in its order."""
    for index, item in enumerate(archive):
        if not item.isdir():
            refused = "" if item.isfile() else LINKED
            if "\\" in item.name:
                refused = "is named with a back-slash, refused"
            yield Member(index, _tar_name(item.name), item.size, refused)


def _tar_name(name: str) -> str:
    """The name; bytes that are no UTF-8 become Latin-1, as no table could hold them otherwise."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("latin-1")
    return name


def checked(archive: Path, members: list[Member]) -> list[PurePosixPath]:
    """Where each member comes to lie; DiscernError if one must not be extracted or two would collide."""
    where = str(archive)
    places: dict[PurePosixPath, Member] = {}
    for member in members:
        # The whole name, not only the part that is used.
        parts = PurePosixPath(member.name).parts
        if not parts or member.name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", parts[0]):
            raise problem(where, f"member {quoted(member.name)} would leave the target folder")
        if "\0" in member.name or max(len(os.fsencode(part)) for part in parts) > LONGEST:
            raise problem(where, f"member {quoted(member.name)}: no file can have this name")
        if member.refused:
            raise problem(where, f"member {quoted(member.name)} {member.refused}")
        if member.place in places:
            first, second = quoted(places[member.place].name), quoted(member.name)
            raise problem(
                where,
                f"{first} and {second} would both become '{member.place}'",
            )
        places[member.place] = member
    folders: set[PurePosixPath] = set()
    for place in places:
        folders.update(itertools.takewhile(lambda parent: parent not in folders, place.parents))
    if both := sorted(places.keys() & folders):
        raise problem(where, f"{quoted(str(both[0]))} is a file, and others would lie in it")
    return list(places)
