"""Models whose feature matrices coincide on a data set: the same weights under two names.

Chat models of one family often carry the same stock image tower. Their rows in a table then say the
same thing twice, which a reader must know. All files are read side by side, a few rows at a time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from discern.contracts import METADATA_KEY, ContractError, feature_matrix, write_json
from discern.errors import problem

#: Difference of two matrices, as a share of the spread of the features, below which they are the same
#: up to rounding of weights or of arithmetic. docs/protocol.md has the measurements behind it.
THRESHOLD = 0.05
ROWS = 512  # read at once of every file


@dataclass
class Matrix:
    """One feature file, and what is summed up of it."""

    file: Path
    model: str
    dataset: str
    d: int
    n: int
    total: np.ndarray = field(repr=False)  # (d,) sums
    squares: float = 0.0

    @property
    def spread(self) -> float:
        """Sum of the squared deviations from the mean feature."""
        return max(0.0, self.squares - float((self.total**2).sum()) / max(1, self.n))


def match_features(features: Sequence[Path | str], out: Path | str) -> None:
    """Compare all models of one data set pairwise and write the pairs with equal d as JSON.

    ``features``: the feature files of one data set. Raises ContractError for a damaged file and for
    files of different images. See ``compare`` for what is written.
    """
    write_json(out, compare([Path(f) for f in features]))


def compare(files: Sequence[Path]) -> dict[str, Any]:
    """``{"dataset", "n", "threshold", "models", "pairs": [{"a", "b", "difference", "same"}]}``.

    ``difference`` is the Frobenius norm of A - B by the larger norm of A and B less their means; 0 means
    equal to the last bit. ``same``: "bits", "rounding" (below the threshold) or "" (different).
    """
    matrices = [_open(f) for f in files]
    if len({m.dataset for m in matrices}) > 1:
        raise ContractError(f"{files[0]}: features of more than one data set were given")
    pairs = []
    for _, group in itertools.groupby(sorted(matrices, key=lambda m: m.d), key=lambda m: m.d):
        pairs += _compare_group(list(group))
    order = {m.model: i for i, m in enumerate(matrices)}
    return {
        "dataset": matrices[0].dataset if matrices else "",
        "n": matrices[0].n if matrices else 0,
        "threshold": THRESHOLD,
        "models": [m.model for m in matrices],
        "pairs": sorted(pairs, key=lambda p: (order[p["a"]], order[p["b"]])),
    }


def _open(file: Path) -> Matrix:
    try:
        with pq.ParquetFile(file) as source:
            about = json.loads(source.schema_arrow.metadata[METADATA_KEY])
            n = source.metadata.num_rows
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ContractError(
            str(problem(str(file), "damaged or no features file", repair=f"make it again: rm {file}"))
        ) from error
    return Matrix(file, about["model"], about["dataset"], about["d"], n, np.zeros(about["d"]))


def _compare_group(group: list[Matrix]) -> list[dict[str, Any]]:
    """Pairs of models with features of one length."""
    if len(group) < 2:
        return []
    if len({m.n for m in group}) > 1:
        raise ContractError(f"{group[0].file} and its neighbours are not of the same images")
    places = list(itertools.combinations(range(len(group)), 2))
    distance = dict.fromkeys(places, 0.0)
    for parts in zip(*(_blocks(m) for m in group), strict=True):
        if any(ids != parts[0][0] for ids, _ in parts):
            raise ContractError(f"{group[0].file} and its neighbours are not of the same images")
        blocks = [block for _, block in parts]
        for matrix, block in zip(group, blocks, strict=True):
            matrix.total += block.sum(axis=0)
            matrix.squares += float((block**2).sum())
        for i, j in places:
            distance[i, j] += float(((blocks[i] - blocks[j]) ** 2).sum())
    pairs = []
    for (i, j), squared in distance.items():
        spread = max(group[i].spread, group[j].spread)
        difference = float((squared / spread) ** 0.5) if spread else float(bool(squared))
        same = "bits" if squared == 0 else "rounding" if difference < THRESHOLD else ""
        pairs.append({"a": group[i].model, "b": group[j].model, "difference": difference, "same": same})
    return pairs


def _blocks(matrix: Matrix) -> Iterator[tuple[list[str], np.ndarray]]:
    """Image ids and features, float64 (<= ROWS, d), of one file, in row order."""
    with pq.ParquetFile(matrix.file) as source:
        for batch in source.iter_batches(ROWS, columns=["image_id", "feature"]):
            table = pa.Table.from_batches([batch])
            yield table["image_id"].to_pylist(), feature_matrix(table).astype(np.float64)
