"""Archives from elsewhere: named members come out, nothing else, and nothing outside the target.

Refused: paths that leave the target folder, links and devices, contents of absurd size, and two
members that would become one file.
"""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from discern.errors import problem

#: An archive that claims to unpack to more than this is refused.
MAX_UNPACKED = 64 * 2**30  # bytes

CHUNK = 1 << 20


def extract_members(archive: Path, members: list[str], target: Path) -> list[Path]:
    """Extract named members of a zip or tar archive into ``target``; returns the files' paths.

    A file keeps its base name; a folder (trailing ``/``) keeps its own name and all that is in it.
    Raises DiscernError for a missing member, a link, a path that leaves ``target``, two files of one
    name, or contents larger than MAX_UNPACKED.
    """
    with _opened(archive) as contents:
        wanted: dict[PurePosixPath, str] = {}
        for member in members:
            folder = member.endswith("/")
            names = [n for n in contents.names if n.startswith(member)] if folder else [member]
            names = [n for n in names if not n.endswith("/")]
            if not names or (not folder and member not in contents.names):
                raise problem(str(archive), f"has no member '{member}'")
            start = PurePosixPath(member).parent
            for name in names:
                place = PurePosixPath(name).relative_to(start)
                if place in wanted:
                    raise problem(str(archive), f"'{wanted[place]}' and '{name}' would both become '{place}'")
                wanted[place] = name
        return contents.extract(wanted, target)


def unpack(archive: Path, target: Path) -> list[Path]:
    """Extract a whole zip or tar archive into ``target`` with the checks of ``extract_members``."""
    with _opened(archive) as contents:
        return contents.extract({PurePosixPath(n): n for n in contents.names}, target)


def is_archive(path: Path) -> bool:
    """Whether the name is that of a zip or tar archive; a NumPy .npz is a data file."""
    return path.name.endswith((".zip", ".whl", ".tar", ".tar.gz", ".tgz"))


class _Contents:
    """The regular files of an open archive: name -> size in bytes."""

    def __init__(self, archive: Path, opened: zipfile.ZipFile | tarfile.TarFile):
        self._archive, self._opened = archive, opened
        self._links: set[str] = set()
        self.names: dict[str, int] = {}
        if isinstance(opened, zipfile.ZipFile):
            for entry in opened.infolist():
                if entry.external_attr >> 16 & 0o170000 == 0o120000:
                    self._links.add(entry.filename)
                if not entry.is_dir():
                    self.names[entry.filename] = entry.file_size
        else:
            for item in opened:
                if not item.isdir():
                    self.names[item.name] = item.size
                if not (item.isfile() or item.isdir()):
                    self._links.add(item.name)

    def _stream(self, name: str) -> IO[bytes]:
        if isinstance(self._opened, zipfile.ZipFile):
            return self._opened.open(name)
        handle = self._opened.extractfile(name)
        if handle is None:
            raise problem(str(self._archive), f"'{name}' is not a file")
        return handle

    def extract(self, wanted: dict[PurePosixPath, str], target: Path) -> list[Path]:
        # Readers never yield more than the declared size, so the declared sizes can be trusted here.
        total = sum(self.names[name] for name in wanted.values())
        if total > MAX_UNPACKED:
            raise problem(str(self._archive), f"would unpack to {total} bytes, more than {MAX_UNPACKED}")
        for place, name in wanted.items():
            if place.is_absolute() or ".." in place.parts or "\\" in name:
                raise problem(str(self._archive), f"member '{name}' would leave the target folder")
            if name in self._links:
                raise problem(str(self._archive), f"member '{name}' is a link or device, refused")
        # Archive order: a compressed tar can only be read forwards without starting over.
        order = {name: index for index, name in enumerate(self.names)}
        for place, name in sorted(wanted.items(), key=lambda pair: order[pair[1]]):
            path = target / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._stream(name) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
        return [target / place for place in wanted]


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[_Contents]:
    try:
        with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as opened:
            yield _Contents(archive, opened)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise problem(
            str(archive), f"damaged archive ({error})", repair=f"delete it and run again: rm {archive}"
        ) from error
