"""What was found out about each file, kept beside the results so that no file is decoded twice.

A folder of small tables that are only ever added, so that several jobs may use it at once and a job that
is killed loses a few seconds of work. An entry holds for files of the same size and time of change, the
same decoding rule, code and libraries. The folder can be deleted at any time.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from discern.data.adapters.rows import Row
from discern.data.pictures.images import Pictures
from discern.data.preparation.inspection import Seen, sources_of, stamp, version
from discern.files import atomic
from discern.fingerprint import digest

log = logging.getLogger("discern")

SECONDS = 5.0  # at most so much work is lost

SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # of the image: its paths
        ("rule", pa.string()),  # digest of the decoding rule
        ("path", pa.string()),
        ("mask_path", pa.string()),
        ("sources", pa.string()),
        ("made", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("small", pa.uint64()),
        ("hash", pa.uint64()),
        ("voxels", pa.string()),
    ]
)
FIELDS = list(Seen._fields)


class Inspections:
    """The entries of one folder that hold for one decoding rule."""

    def __init__(self, folder: Path, pictures: Pictures):
        self._folder, self._pictures = folder, pictures
        self._rule = digest(pictures.decoding.model_dump(mode="json"))
        self._pending: list[tuple[str, Seen]] = []
        self._written = time.monotonic()
        self._known = self._load()

    def find(self, row: Row) -> Seen | None:
        """What is known of an image whose files are as they were, or None."""
        seen = self._known.pop(_key(row), None)  # each is asked for once: memory is given back
        if seen is None or seen.sources != stamp(self._pictures, sources_of(row)):
            return None
        if not seen.made:
            return seen
        made = tuple(p for p in (seen.path, seen.mask_path) if p and p not in sources_of(row))
        return seen if seen.made == stamp(self._pictures, made) else None

    def add(self, row: Row, seen: Seen) -> None:
        """Keep what was found; written every few seconds."""
        if seen.sources:
            self._pending.append((_key(row), seen))

    def write(self, now: bool = True) -> None:
        """Write what is pending; if not ``now``, only when some seconds have passed."""
        if self._pending and (now or time.monotonic() - self._written > SECONDS):
            keys, seen = zip(*self._pending, strict=True)
            columns = dict(zip(FIELDS, zip(*seen, strict=True), strict=True))
            columns |= {"key": keys, "rule": (self._rule,) * len(keys)}
            self._write(pa.table(columns, schema=SCHEMA))
            self._pending = []
            self._written = time.monotonic()

    def compact(self) -> None:
        """Bring all tables together in one; those that other jobs add meanwhile stay."""
        self.write()
        parts = self._parts()
        if len(parts) > 1:
            self._bring_together(parts)

    def _bring_together(self, parts: list[Path]) -> None:
        try:
            tables = [table for part in parts if (table := self._read(part)) is not None]
        except FileNotFoundError:  # another job is at it
            return
        self._write(_latest(tables))
        for part in parts:
            part.unlink(missing_ok=True)

    def _load(self) -> dict[str, Seen]:
        known = {}
        for table in self._tables():
            mine = table.filter(pc.equal(table["rule"], self._rule))
            for batch in mine.select(["key", *FIELDS]).to_batches(max_chunksize=10_000):
                columns = [column.to_pylist() for column in batch.columns]
                for key, *values in zip(*columns, strict=True):
                    known[key] = Seen(*values)  # later parts come last
        return known

    def _tables(self) -> list[pa.Table]:
        for _ in range(3):
            try:
                return [table for part in self._parts() if (table := self._read(part)) is not None]
            except FileNotFoundError:  # another job has just brought the parts together: look again
                continue
        return []

    def _parts(self) -> list[Path]:
        """Tables of all jobs, the oldest first."""
        return sorted(p for p in self._folder.glob("*.parquet") if not p.name.startswith("."))

    def _read(self, part: Path) -> pa.Table | None:
        try:
            table = pq.read_table(part)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            log.warning("%s: damaged, ignored (%s)", part, str(error).splitlines()[0])
            return None
        metadata = table.schema.metadata or {}
        return table if metadata.get(b"version") == version().encode() else None

    def _write(self, table: pa.Table) -> None:
        name = f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}.parquet"
        with atomic(self._folder / name) as temporary:
            table = table.replace_schema_metadata({b"version": version().encode()})
            pq.write_table(table, temporary, compression="zstd")


def _key(row: Row) -> str:
    return "\0".join(sources_of(row)) if row.mask_paths else row.path


def _latest(tables: list[pa.Table]) -> pa.Table:
    """All rows, and of those for the same image and rule the last."""
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    table = table.append_column("place", pa.array(range(table.num_rows), pa.int64()))
    last = table.group_by(["key", "rule"]).aggregate([("place", "max")])["place_max"]
    return table.take(last).drop_columns("place")
