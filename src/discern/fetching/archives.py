"""Archives from elsewhere: their files come out, nothing else, and nothing outside the target.

Refused: paths that leave the target folder, links and devices, contents of absurd size or number, and
two members that would become one file. Nested archives are not opened.
"""

from __future__ import annotations

import contextlib
import errno
import lzma
import shutil
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from discern.errors import problem
from discern.fetching.members import BoundedTarInfo, Member, checked, quoted, tar_members, zip_members
from discern.fetching.space import check_free, explained_if_full

#: An archive that claims to unpack to more than this is refused.
MAX_UNPACKED = 512 * 2**30  # bytes

#: Beyond the first GiB contents may be this many times as large as the archive: pictures hardly shrink.
MAX_RATIO = 200
SMALL = 2**30  # bytes

#: More files than any data set here has by far.
MAX_MEMBERS = 5_000_000

#: Errors of a disk that cannot hold a name.
NO_NAME = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR})

#: What the readers of the standard library raise for archives that nobody wrote in good faith, or that
#: were damaged. An OSError of theirs has no number, or is about a place that no file has.
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, ArithmeticError, EOFError,
    LookupError, MemoryError, OSError, RecursionError, ValueError,
)  # fmt: skip

CHUNK = 1 << 20
SHOWN_FROM = 100_000_000  # bytes; smaller archives need no progress bar

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
FOREIGN = (".7z", ".rar", ".tar.zst", ".zipx")  # known, but not opened here


def is_archive(path: Path) -> bool:
    """Whether the name is that of a zip or tar archive; a NumPy .npz is a data file."""
    return path.name.lower().endswith((*SUFFIXES, ".whl"))


def is_foreign(path: Path) -> bool:
    """Whether the name is that of an archive that a person must unpack."""
    return path.name.lower().endswith(FOREIGN)


def extract_members(archive: Path, members: list[str], target: Path) -> list[Path]:
    """Extract named members of a zip or tar archive into ``target``; returns the files' paths.

    A file keeps its base name; a folder (trailing ``/``) keeps its own name and all that is in it.
    Raises DiscernError for a missing member and for what ``unpack`` refuses.
    """
    with _opened(archive) as opened:
        known = _members(archive, opened)
        wanted: list[Member] = []
        for member in members:
            folder = member.endswith("/")
            found = [m for m in known if (m.name.startswith(member) if folder else m.name == member)]
            if not found:
                raise problem(str(archive), f"has no member {quoted(member)}")
            start = PurePosixPath(member).parent
            wanted += [m.below(start) for m in found]
        return _extract(archive, opened, wanted, target)


def unpack(archive: Path, target: Path) -> list[Path]:
    """Extract a whole zip or tar archive into the folder ``target``; returns the files' paths.

    Raises DiscernError for a damaged or encrypted archive, a link or device, a path that leaves
    ``target``, two members that would be one file, contents of absurd size, or a full disk. What came
    out before stays in ``target``: give it a temporary name.
    """
    with _opened(archive) as opened:
        return _extract(archive, opened, _members(archive, opened), target)


def _members(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile) -> list[Member]:
    members = zip_members(opened) if isinstance(opened, zipfile.ZipFile) else tar_members(opened)
    found = []
    for member in members:  # a compressed tar yields them while it is read
        found.append(member)
        if len(found) > MAX_MEMBERS:
            raise problem(str(archive), f"has more than {MAX_MEMBERS} members, refused")
    return found


def _extract(
    archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, members: list[Member], target: Path
) -> list[Path]:
    total = _bounded(archive, members)
    places, folders = checked(archive, members), set()
    check_free(target, total, f"{archive.name} unpacked")
    with explained_if_full(target, total, f"{archive.name} unpacked"), _bar(archive, total) as bar:
        # Archive order: a compressed tar can only be read forwards without starting over.
        for member, place in sorted(zip(members, places, strict=True), key=lambda pair: pair[0].index):
            path = target / place
            with _created(archive, member, path, place.parent not in folders) as sink:
                folders.add(place.parent)
                with _stream(archive, opened, member) as source:
                    shutil.copyfileobj(source, sink, CHUNK)
            bar.update(member.size)
    return [target / place for place in places]


@contextlib.contextmanager
def _created(archive: Path, member: Member, path: Path, in_new_folder: bool) -> Iterator[IO[bytes]]:
    """The member's new file; DiscernError if it is there or cannot be on this disk."""
    try:
        if in_new_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        sink = open(path, "xb")  # noqa: SIM115 (used below, outside of what is explained here)
    except FileExistsError as error:
        raise problem(
            str(archive),
            f"{quoted(member.name)} would overwrite {path}",
            repair="two files of one name, or names that differ in case only on a disk that ignores "
            "case: unpack it by hand",
        ) from error
    except OSError as error:
        if error.errno not in NO_NAME:
            raise
        raise problem(
            str(archive),
            f"member {quoted(member.name)} cannot have this name on this disk ({error.strerror})",
            repair="use a folder with a shorter path or another file system, or unpack it by hand",
        ) from error
    with sink:
        yield sink


def _bounded(archive: Path, members: list[Member]) -> int:
    """Bytes of all members; DiscernError if they are absurdly many."""
    # Readers never yield more than the declared size, so the declared sizes can be trusted here.
    total, packed = sum(member.size for member in members), archive.stat().st_size
    if total > MAX_UNPACKED:
        raise problem(str(archive), f"would unpack to {total} bytes, more than {MAX_UNPACKED}")
    if total > SMALL and total > MAX_RATIO * packed:
        raise problem(
            str(archive),
            f"{packed} bytes would unpack to {total}, more than {MAX_RATIO} times as many: refused",
            repair="if you trust it, unpack it by hand and point to the folder",
        )
    return total


def _bar(archive: Path, total: int):  # type: ignore[no-untyped-def]  # tqdm has no annotations
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=f"unpacking {archive.name}",
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        disable=total < SHOWN_FROM,
        mininterval=0.5 if sys.stderr.isatty() else 10,
    )


def _stream(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, member: Member) -> IO[bytes]:
    if isinstance(opened, zipfile.ZipFile):
        return opened.open(opened.infolist()[member.index])
    handle = opened.extractfile(opened.getmembers()[member.index])
    if handle is None:
        raise problem(str(archive), f"{quoted(member.name)} is not a file")
    return handle


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    try:
        is_zip = zipfile.is_zipfile(archive)
        with zipfile.ZipFile(archive) if is_zip else tarfile.open(archive, tarinfo=BoundedTarInfo) as opened:
            yield opened
    except NotImplementedError as error:  # of zipfile: Deflate64, which Windows uses above 2 GB
        raise problem(
            str(archive), f"cannot be unpacked here ({error})",
            repair="unpack it with another program and point to the folder",
        ) from error  # fmt: skip
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's error
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise problem(
            str(archive), f"damaged archive ({reason})", repair="fetch it again; a download: delete it first"
        ) from error
