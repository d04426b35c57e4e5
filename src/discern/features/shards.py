"""Features of some rows of a manifest: a job of its own, of a data set too large for one.

A shard is extracted as if its rows were a data set, so that nothing of the extraction knows of shards and
their resized pictures have files of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discern.config import ExtractSettings
from discern.contracts import MANIFEST, opened, read_rows, write_table
from discern.features.extract import extract_features
from discern.features.merging import bounds, part_name


def extract_shard(
    rows: str,
    spec: dict[str, Any],
    manifest: Path | str,
    weights: Path | str,
    out: Path | str,
    batch_size: int | str,
    device: str = "auto",
    fingerprint: str = "",
    settings: ExtractSettings | None = None,
    shared: Path | str = "",
) -> None:
    """Write the features of rows ``first-last`` (without the last; or ``first-end``) of a manifest.

    Takes and raises what ``extract_features`` does. A manifest shorter than its card said may leave a shard
    without rows.
    """
    table = read_rows(MANIFEST, manifest, *bounds(rows))
    with opened(MANIFEST, manifest) as (_, about):
        pass
    part = Path(out).with_suffix(".manifest.parquet")
    try:
        write_table(MANIFEST, part, table, about | {"dataset": part_name(about["dataset"], rows)})
        extract_features(spec, part, weights, out, batch_size, device, fingerprint, settings, shared)
    finally:
        part.unlink(missing_ok=True)
