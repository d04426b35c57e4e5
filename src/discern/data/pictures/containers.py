"""Pictures inside other files: arrays of a NumPy archive, bytes in a Parquet file, frames of a file.

Each has a locator in place of a path: ``file.npz#array[index]``, ``file.npz#array`` (the whole array is
one picture), ``file.parquet#column[row]``, and ``path#frame[index]`` for one frame of any of these.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from discern.errors import DiscernError, problem

Key = TypeVar("Key", bound=Hashable)

FRAME = re.compile(r"(?P<path>.+)#frame\[(?P<index>\d+)\]", re.DOTALL)
NPZ = re.compile(r"(?P<file>.+\.npz)#(?P<array>[\w-]+)(\[(?P<index>\d+)\])?", re.DOTALL | re.IGNORECASE)
PARQUET = re.compile(
    r"(?P<file>.+\.(parquet|pq))#(?P<column>[^#\[\]]+)\[(?P<row>\d+)\]", re.DOTALL | re.IGNORECASE
)

#: Bytes that arrays, and row groups, may take together; the one in use is kept however large it is.
KEPT = 512 * 2**20


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    filled: bool = False
    value: Any = None
    size: int = 0


class Recent(Generic[Key]):
    """What was read last, up to ``limit`` bytes; safe for threads, which never read one thing twice."""

    def __init__(self, limit: int):
        self._limit = limit
        self._lock = threading.Lock()
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()

    def get(self, key: Key, read: Callable[[], tuple[Any, int]]) -> Any:
        """The value of ``key``; ``read`` gives it with its size in bytes."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.lock:
            if not slot.filled:
                slot.value, slot.size = read()
                slot.filled = True
                self._forget()
        return slot.value

    def _forget(self) -> None:
        with self._lock:
            while len(self._slots) > 1 and sum(s.size for s in self._slots.values()) > self._limit:
                self._slots.popitem(last=False)


_arrays: Recent[tuple[str, str, int, int]] = Recent(KEPT)
_groups: Recent[tuple[str, str, int, int, int]] = Recent(KEPT)
_footers: Recent[tuple[str, int, int]] = Recent(64 * 2**20)


def split_frame(path: str) -> tuple[str, int | None]:
    """The path without its frame, and the frame that it names, if any."""
    if path.endswith("]") and (match := FRAME.fullmatch(path)):
        return match["path"], int(match["index"])
    return path, None


def frame_index(frames: str | int, count: int) -> int:
    """Which of ``count`` frames a card means; the middle one of an even number begins its second half.

    Raises DiscernError, without path, if there is none of that number. ``all`` is the first: files are
    taken apart where they are listed.
    """
    index = {"first": 0, "all": 0, "middle": count // 2}[frames] if isinstance(frames, str) else frames
    if index >= count:
        raise DiscernError(f"holds {count} frames, counted from 0, none at {index}")
    return index


def file_behind(path: Path | str) -> Path:
    """The file on disk that a path or locator reads."""
    name, _ = split_frame(str(path))
    match = NPZ.fullmatch(name) or PARQUET.fullmatch(name) if "#" in name else None
    return Path(match["file"] if match else name)


def content(path: str) -> np.ndarray[Any, Any] | bytes | None:
    """What a locator without frame holds: an array, or the bytes of a picture; None for a plain path.

    Raises DiscernError naming the file if it is damaged or has no such array, column or row.
    """
    if "#" not in path:
        return None
    if match := NPZ.fullmatch(path):
        return _member(match)
    if match := PARQUET.fullmatch(path):
        return parquet_bytes(match["file"], match["column"], int(match["row"]))
    return None


def npz_array(file: Path | str, array: str) -> np.ndarray[Any, Any]:
    """One array of an npz archive, kept for the next call: its members cannot be memory-mapped.

    Raises DiscernError if the file is damaged or has no such array.
    """

    def read() -> tuple[np.ndarray[Any, Any], int]:
        values = _read_array(file, array)
        return values, values.nbytes

    return _arrays.get((str(file), array, *_version(file)), read)


def parquet_bytes(file: Path | str, column: str, row: int) -> bytes:
    """The bytes in one row of a column of bytes, or of records with the field ``bytes``.

    The row group of the row is read and kept for the next call. Raises DiscernError.
    """
    import pyarrow as pa

    version = _version(file)
    try:
        footer, starts = _footers.get((str(file), *version), lambda: _read_footer(file))
        if row >= starts[-1]:
            raise problem(str(file), f"holds {starts[-1]} rows, none at {row}")
        group = int(np.searchsorted(starts, row, side="right")) - 1
        values = _groups.get(
            (str(file), column, group, *version), lambda: _read_group(file, footer, column, group)
        )
        found = values[row - int(starts[group])].as_py()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        first = str(error).splitlines()[0]
        raise problem(str(file), f"damaged Parquet file ({first})", repair="fetch the file again") from error
    found = found.get("bytes") if isinstance(found, dict) else found
    if found is None:
        raise problem(str(file), f"{column} holds no bytes in row {row}")
    return bytes(found)


def _version(file: Path | str) -> tuple[int, int]:
    """Size and time of the file, so that one fetched again is read again."""
    status = Path(file).stat()
    return status.st_size, status.st_mtime_ns


def _member(match: re.Match[str]) -> np.ndarray[Any, Any]:
    if match["index"] is None:  # one picture, read once: keeping it would push out what is used again
        return _read_array(match["file"], match["array"])
    images, index = npz_array(match["file"], match["array"]), int(match["index"])
    if images.ndim == 0 or index >= len(images):
        count = len(images) if images.ndim else 0
        raise problem(match["file"], f"{match['array']} holds {count} images, none at {index}")
    return np.ascontiguousarray(images[index])


def _read_array(file: Path | str, array: str) -> np.ndarray[Any, Any]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            names = archive.files
            found: np.ndarray[Any, Any] | None = archive[array] if array in names else None
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, zlib and NumPy header errors alike
        raise problem(str(file), f"damaged npz archive ({error})", repair="fetch the file again") from error
    if found is None:
        raise problem(str(file), f"has no array '{array}'", allowed=names)
    return found


def _read_footer(file: Path | str) -> tuple[tuple[Any, np.ndarray[Any, Any]], int]:
    """Metadata, and the rows at which row groups begin with the number of rows at the end."""
    import pyarrow.parquet as pq

    footer = pq.read_metadata(file)
    sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    return (footer, np.cumsum([0, *sizes])), footer.serialized_size


def _read_group(file: Path | str, footer: Any, column: str, group: int) -> tuple[Any, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, metadata=footer) as table:
        schema = table.schema_arrow
        if column not in schema.names:
            raise problem(str(file), f"has no column '{column}'", allowed=schema.names)
        kind = schema.field(column).type
        record = pa.types.is_struct(kind) and "bytes" in [f.name for f in kind]
        inner = kind.field("bytes").type if record else kind
        if not any(
            of(inner) for of in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
        ):
            what = f"column '{column}' has type {kind}"
            raise problem(str(file), what, allowed=["bytes", "records with the field `bytes`"])
        names = [f"{column}.bytes" if record else column]
        values = table.read_row_group(group, columns=names, use_threads=False).column(0)
    return values, values.nbytes
