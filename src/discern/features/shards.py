"""Features of some rows of a manifest: a job of its own, of a data set too large for one.

A shard is extracted as if its rows were a data set, so that nothing of the extraction knows of shards and
their resized pictures have files of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discern.contracts import MANIFEST, opened, read_rows, write_table
from discern.features.extract import extract_features
from discern.features.merging import bounds, part_name


def extract_shard(
    rows: str,
    spec: dict[str, Any],
    manifest: Path | str,
    weights: Path | str,
    out: Path | str,
    *how: Any,
    **named: Any,
) -> None:
    """Write the features of rows ``first-last`` (without the last; or ``first-end``) of a manifest.

    Takes what ``extract_features`` does (``how`` and ``named``: the rest of it), and raises the same. A
    manifest shorter than its card said may leave a shard without rows.
    """
    table = read_rows(MANIFEST, manifest, *bounds(rows))
    with opened(MANIFEST, manifest) as (_, about):
        pass
    part = Path(out).with_suffix(".manifest.parquet")
    try:
        write_table(MANIFEST, part, table, about | {"dataset": part_name(about["dataset"], rows)})
        extract_features(spec, part, weights, out, *how, **named)
    finally:
        part.unlink(missing_ok=True)
