"""Shards of features become one file in manifest order, which differs in nothing from one made at once.

Memory holds a part of one shard at a time, whatever the size of the store.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from discern.contracts import FEATURES, MANIFEST, WRITTEN, atomic, encoded_metadata, opened, read_rows
from discern.errors import DiscernError, problem

log = logging.getLogger("discern")

#: Bytes of features that are held, and written as one row group.
GROUP = 64 * 2**20

#: What shards may differ in: it tells where they were made, how quickly, and what of.
OWN = {"dataset", "images_per_second", "batch_size", "deviation", "device"}


def bounds(rows: str) -> tuple[int, int | None]:
    """First row and the one after the last of ``first-last``; None for the end, ``first-end``."""
    found = re.fullmatch(r"(\d+)-(\d+|end)", rows)
    if not found:
        raise problem("rows", f"found '{rows}'", allowed=["first-last, as 0-1000", "first-end, as 1000-end"])
    return int(found[1]), None if found[2] == "end" else int(found[2])


def part_name(dataset: str, rows: str) -> str:
    """What a shard's metadata call its data set."""
    return f"{dataset}.{rows}"


@dataclass(frozen=True)
class Shard:
    """A file of features of rows ``first`` .. ``last`` - 1, or to the end, and what it says of itself."""

    file: Path
    rows: str
    n: int
    schema: pa.Schema
    about: dict[str, Any]

    @classmethod
    def read(cls, folder: Path | str, rows: str) -> Shard:
        """The shard of a folder; reads its footer alone."""
        path = Path(folder) / f"{rows}.parquet"
        with opened(FEATURES, path) as (file, about):
            FEATURES.check(file.schema_arrow.empty_table(), path)
            return cls(path, rows, file.metadata.num_rows, file.schema_arrow.remove_metadata(), about)

    def problem(self, what: str) -> DiscernError:
        """A message that ends with the way to have this shard made again."""
        return problem(
            str(self.file), what, repair=f"delete it and run again, it alone is made: rm {self.file}"
        )


def merge_features(folder: Path | str, rows: Sequence[str], manifest: Path | str, out: Path | str) -> None:
    """Write the features of a whole manifest, of the shards ``rows`` (in order) of ``folder``.

    Raises DiscernError naming the shard that lacks rows or has others than the manifest, or was made of
    another model, code, environment or data set than the rest.
    """
    shards = [Shard.read(folder, name) for name in rows]
    with opened(MANIFEST, manifest) as (file, about):
        total = file.metadata.num_rows
    _check_rows(shards, total)
    for shard in shards:
        _check_origin(shard, shards[0], about["dataset"])
    schema = shards[0].schema.with_metadata(encoded_metadata(FEATURES, _merged(shards, about["dataset"])))
    with atomic(out) as temporary, pq.ParquetWriter(temporary, schema, **WRITTEN) as writer:
        for shard in shards:
            for part in _parts(shard, manifest):
                writer.write_table(part.cast(schema))
    log.info("%d images of %d shards", total, len(shards))


def _check_rows(shards: Sequence[Shard], total: int) -> None:
    """Every row of the manifest is in one shard, by the numbers."""
    reached: int | None = 0
    for shard in shards:
        first, last = bounds(shard.rows)
        if first != reached:
            raise problem(
                "rows", f"shard {shard.rows} does not begin where the one before it ends: {reached}"
            )
        reached = last
        wanted = max(0, min(total if last is None else last, total) - first)
        if shard.n != wanted:
            raise shard.problem(f"has {shard.n} rows, the manifest {wanted} between {shard.rows}")
    if reached is not None:
        raise problem("rows", f"the last shard ends at {reached}; it must end as in '0-end'")


def _check_origin(shard: Shard, first: Shard, dataset: str) -> None:
    """A shard of these rows, made as the first one was."""
    if shard.about.get("dataset") != part_name(dataset, shard.rows):
        raise shard.problem(
            f"is of data set '{shard.about.get('dataset')}', not '{part_name(dataset, shard.rows)}'"
        )
    if shard.schema != first.schema:
        raise shard.problem(f"has columns {shard.schema}, {first.file} has {first.schema}")
    for field in sorted((shard.about.keys() | first.about.keys()) - OWN):
        mine, theirs = shard.about.get(field), first.about.get(field)
        if mine != theirs:
            raise shard.problem(f"{field} is {mine!r}, in {first.file} it is {theirs!r}")


def _merged(shards: Sequence[Shard], dataset: str) -> dict[str, Any]:
    """The metadata of all shards together.

    Deviation from float32 is that of the first pictures, as it is of a file made at once.
    """
    full = [s for s in shards if s.n] or list(shards)
    about = full[0].about | {"dataset": dataset}
    speeds = [(s.n, s.about["images_per_second"]) for s in full]
    if all(speed for _, speed in speeds):
        about["images_per_second"] = round(sum(n for n, _ in speeds) / sum(n / v for n, v in speeds), 2)
    if sizes := [s.about["batch_size"] for s in full if "batch_size" in s.about]:
        about["batch_size"] = min(sizes)
    about["device"] = ", ".join(dict.fromkeys(s.about["device"] for s in full))
    return about


def _parts(shard: Shard, manifest: Path | str) -> Iterator[pa.Table]:
    """A shard in tables of at most GROUP bytes; its image ids are those of the manifest."""
    ids = read_rows(MANIFEST, manifest, *bounds(shard.rows))["image_id"]
    at, size = 0, max(1, GROUP // (4 * max(1, shard.schema.field("feature").type.list_size)))
    with opened(FEATURES, shard.file) as (file, _):
        for batch in file.iter_batches(size):
            part = pa.Table.from_batches([batch])
            wanted = ids.slice(at, len(part))
            if not part["image_id"].equals(wanted):
                pairs = zip(part["image_id"].to_pylist(), wanted.to_pylist(), strict=True)
                seen, expected = next(pair for pair in pairs if pair[0] != pair[1])
                raise shard.problem(f"has image '{seen}' where the manifest has '{expected}'")
            at += len(part)
            yield part
