"""Two results folders of one study: the same tables, splits, scores and maps, whatever ran them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

#: Kinds of files that seeds fix; PNG, HTML, logs, benchmarks and costs tell when and how long, too.
KINDS = (".parquet", ".safetensors", ".json")
#: Stages whose files must be the same.
STAGES = ("features", "manifests", "splits", "svm", "umap", "rise", "neighbours", "identical")
#: Columns and metadata of tables that say how fast it went, not what came out.
TIMING = {"seconds", "images_per_second"}


def compared(root: Path, studies: set[str]) -> dict[str, Path]:
    """Every file of these folders of ``root`` that must be the same in another run, by its path."""
    files = {str(f.relative_to(root)): f for f in sorted(root.rglob("*")) if f.suffix in KINDS}
    return {n: f for n, f in files.items() if Path(n).parts[0] in studies and Path(n).parts[1] in STAGES}


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same: tables cell by cell and bit by bit, other files byte by byte."""
    if one.suffix != ".parquet":
        return one.read_bytes() == other.read_bytes()
    first, second = pq.read_table(one), pq.read_table(other)
    return _about(first) == _about(second) and cells(one) == cells(other)


def _about(table) -> dict[str, object]:
    about = json.loads(table.schema.metadata[b"discern"])
    return {name: value for name, value in about.items() if name not in TIMING}


def cells(file: Path) -> dict[str, list[str]]:
    """Of every column its cells in words; `repr` tells floats apart to their last bit."""
    table = pq.read_table(file)
    return {n: [repr(_untimed(v)) for v in table[n].to_pylist()] for n in table.column_names}


def _untimed(value: object) -> object:
    """A cell, or a part of one, without what tells how fast it went."""
    if isinstance(value, dict):
        return {name: _untimed(part) for name, part in value.items() if name not in TIMING}
    return [_untimed(part) for part in value] if isinstance(value, list) else value


def differences(one: Path, other: Path, studies: set[str]) -> list[str]:
    """Paths that only one folder has, or whose files differ; AssertionError where nothing is there."""
    left, right = compared(one, studies), compared(other, studies)
    assert left, one
    alone = sorted(left.keys() ^ right.keys())
    return alone + [name for name in sorted(left.keys() & right.keys()) if not same(left[name], right[name])]
