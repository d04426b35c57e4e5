"""File contracts: the columns, types and metadata of every table that one stage hands to the next.

A table is written under a temporary name and renamed, so a reader never meets half a file, and is
checked on both sides. Metadata is one JSON object under the Parquet key ``discern``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from discern.errors import problem
from discern.files import ContractError as ContractError
from discern.files import atomic as atomic
from discern.files import read_json as read_json
from discern.files import read_record as read_record
from discern.files import sha256_file as sha256_file
from discern.files import write_json as write_json
from discern.files import write_text as write_text
from discern.fingerprint import CONTRACT_VERSION
from discern.free_memory import MORE_MEMORY, out_of_memory

METADATA_KEY = b"discern"
BOX = pa.list_(pa.int32(), 4)

#: How every table is written. Without a checksum a page with a flipped bit is read as other numbers.
WRITTEN: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}


@dataclass(frozen=True)
class Contract:
    """Name, columns and key of one kind of table. ``nullable`` columns may hold nulls."""

    name: str
    columns: dict[str, pa.DataType | Callable[[pa.DataType], bool]]
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()

    def schema(self) -> pa.Schema:
        """Arrow schema; only for contracts whose every column has a fixed type."""
        return pa.schema([pa.field(c, t, nullable=c in self.nullable) for c, t in self.columns.items()])

    def check(self, table: pa.Table, path: Path | str) -> pa.Table:
        """Return ``table`` in column order or raise ContractError naming file and column."""
        for column, wanted in self.columns.items():
            if table.column_names.count(column) != 1:
                seen = "twice" if column in table.column_names else "missing"
                raise ContractError(f"{path}: not a {self.name} table: column '{column}' is {seen}")
            seen = table.schema.field(column).type
            if not (wanted(seen) if callable(wanted) else wanted.equals(seen)):
                raise ContractError(f"{path}: column '{column}' has type {seen}, not that of {self.name}")
            if column not in self.nullable and table[column].null_count:
                raise ContractError(f"{path}: column '{column}' has {table[column].null_count} nulls")
        if table.group_by(list(self.key)).aggregate([]).num_rows != table.num_rows:
            raise ContractError(f"{path}: {' + '.join(self.key)} is not unique")
        return table.select(list(self.columns))


MANIFEST = Contract(
    "manifest",
    {
        "image_id": pa.string(),  # stable, unique, readable
        "path": pa.string(),  # relative to metadata["root"]; after `made:`, to metadata["made"]
        "sha256": pa.string(),  # of the file: a picture, or a volume
        "label": pa.int32(),  # index into the card's classes
        "label_name": pa.string(),
        "group": pa.string(),  # patient, lesion, slide or slab; null if unknown
        "cluster": pa.string(),  # smallest image id among its (near-)duplicates; null if it has none
        "volume": pa.string(),  # the scan or slide an image was cut from; null if none
        "official_split": pa.string(),
        "width": pa.int32(),  # of a volume: voxels along the first two axes of the file
        "height": pa.int32(),
        "mode": pa.string(),  # Pillow mode of the file; of a volume, "volume 512x512x120" as stored
        "mask_path": pa.string(),  # as `path`; white is inside
        "boxes": pa.list_(BOX),  # x0, y0, x1, y1 in pixels, half open; printed words
    },
    key=("image_id",),
    nullable=frozenset({"group", "cluster", "volume", "official_split", "mask_path", "boxes"}),
)

SPLITS = Contract(
    "splits",
    {"image_id": pa.string(), "role": pa.string(), "fold": pa.int8()},  # fold null when role is test
    key=("image_id",),
    nullable=frozenset({"fold"}),
)

FEATURES = Contract(
    "features",
    {
        "image_id": pa.string(),
        "feature": lambda t: pa.types.is_fixed_size_list(t) and t.value_type == pa.float32(),
    },
    key=("image_id",),
)

VALIDATION = pa.struct(
    {
        "t": pa.float64(),
        "C": pa.float64(),
        "macro_f1": pa.float64(),
        "accuracy": pa.float64(),
        "relative_gap": pa.float64(),
        "n_iter": pa.int32(),
        "converged": pa.bool_(),
        "seconds": pa.float64(),
    }
)

SCORES = Contract(
    "scores",
    {
        "fold": pa.int8(),
        "estimator": pa.string(),
        "t": pa.float64(),  # chosen on the validation part
        "C": pa.float64(),
        "n_train": pa.int32(),
        "n_validation": pa.int32(),
        "n_test": pa.int32(),
        "d": pa.int32(),
        "accuracy": pa.float64(),  # this and the following: on the hold-out, in 0..1
        "macro_f1": pa.float64(),
        "balanced_accuracy": pa.float64(),
        "auroc": pa.float64(),  # one against rest, macro mean; null if a class is missing
        "positive_f1": pa.float64(),  # binary sets only
        "class_f1": pa.list_(pa.float64()),
        "relative_gap": pa.float64(),  # duality gap / objective of the chosen fit
        "converged": pa.bool_(),
        "validation": pa.list_(VALIDATION),  # every t
    },
    key=("fold",),
    nullable=frozenset({"auroc", "positive_f1", "relative_gap"}),
)

PREDICTIONS = Contract(
    "predictions",
    {
        "image_id": pa.string(),
        "fold": pa.int8(),
        "true": pa.int32(),
        "predicted": pa.int32(),
        "decision": pa.list_(pa.float64()),
    },
    key=("image_id", "fold"),
)

UMAP = Contract(
    "umap",
    {
        "image_id": pa.string(),
        "n_neighbors": pa.int32(),
        "min_dist": pa.float64(),
        "x": pa.float32(),
        "y": pa.float32(),
    },
    key=("image_id", "n_neighbors", "min_dist"),
)

RISE = Contract(
    "rise",
    {
        "image_id": pa.string(),
        "true": pa.int32(),
        "predicted": pa.int32(),
        "correct": pa.bool_(),
        "decision": pa.float64(),  # decision value of the predicted class, unmasked image
        "saliency": pa.list_(pa.float16()),  # row-major, metadata["saliency_size"] = [h, w]
        "saliency_error": pa.list_(pa.float16()),  # its standard error, pixel by pixel
        "standard_error": pa.float64(),  # share of the map's spread over its pixels that is sampling error
        "n_masks": pa.int32(),  # that this image took
        "hottest_in_target": pa.bool_(),  # is the hottest pixel inside mask or box
        "target_share": pa.float64(),  # share of the hottest 5 % of pixels inside mask or box
        "target_area": pa.float64(),  # share of the picture that mask or box covers
    },
    key=("image_id",),
    nullable=frozenset({"hottest_in_target", "target_share", "target_area"}),
)

COMPARISONS = Contract(
    "comparisons",
    {
        "dataset": pa.string(),
        "protocol": pa.string(),
        "metric": pa.string(),
        "model_a": pa.string(),
        "model_b": pa.string(),
        "difference": pa.float64(),  # a - b, mean over the fold models, in 0..1
        "low": pa.float64(),  # 95 % percentile interval, paired bootstrap over hold-out images
        "high": pa.float64(),
        "n_test": pa.int32(),
    },
    key=("dataset", "protocol", "metric", "model_a", "model_b"),
)

GAPS = Contract(
    "gaps",
    {
        "dataset": pa.string(),
        "metric": pa.string(),
        "model": pa.string(),
        "image": pa.float64(),  # score by the `image` protocol, mean over the fold models, in 0..1
        "group": pa.float64(),  # the same by the `group` protocol
        "difference": pa.float64(),  # image - group
        "low": pa.float64(),  # 95 % percentile interval, paired bootstrap over groups; null: too few
        "high": pa.float64(),
        "n_image": pa.int32(),  # images of each hold-out
        "n_group": pa.int32(),
        "units_image": pa.int32(),  # groups in each hold-out; an image without one counts as one
        "units_group": pa.int32(),
    },
    key=("dataset", "metric", "model"),
    nullable=frozenset({"low", "high"}),
)


_CLUSTER = {"image_ids": [str], "labels?": [str], "groups?": [str | None]}

#: What readers rely on in the JSON beside a manifest; see ``files.has_shape``.
AUDIT_SHAPE = {
    "duplicates?": [_CLUSTER],
    "near_duplicates?": [_CLUSTER],
    "crossing_labels?": int,
    "corrupt?": list,
    "groups?": {"n?": int, "in_several_official_splits?": dict},
}

#: The same of ``paths.IDENTICAL``.
IDENTICAL_SHAPE = {"pairs": [{"a": str, "b": str, "same": str | None, "difference": float | int | None}]}


def write_table(
    contract: Contract, path: Path | str, columns: dict[str, Any] | pa.Table, metadata: dict[str, Any]
) -> None:
    """Check and write a table atomically. ``columns`` maps names to sequences or arrays."""
    if not isinstance(columns, pa.Table):
        columns = pa.table(columns, schema=contract.schema())
    table = contract.check(columns, path)
    table = table.replace_schema_metadata(encoded_metadata(contract, metadata))
    with atomic(path) as temporary:
        pq.write_table(table, temporary, **WRITTEN)


def encoded_metadata(contract: Contract, metadata: dict[str, Any]) -> dict[bytes, bytes]:
    """The metadata of a table as its Parquet file keeps them."""
    text = json.dumps({"contract": contract.name, "contract_version": CONTRACT_VERSION} | metadata)
    return {METADATA_KEY: text.encode()}


def read_table(contract: Contract, path: Path | str) -> tuple[pa.Table, dict[str, Any]]:
    """Read and check a table; returns it with its metadata. Raises ContractError."""
    with _readable(contract, path):
        table = pq.read_table(path, page_checksum_verification=True)
        metadata = _Metadata(path, table.schema.metadata)
        return contract.check(table, path), metadata


@contextlib.contextmanager
def opened(contract: Contract, path: Path | str) -> Iterator[tuple[pq.ParquetFile, dict[str, Any]]]:
    """The file of a table and its metadata, to be read in parts. Raises ContractError, inside too.

    Columns and key are checked by nobody but who reads.
    """
    # Without a buffer ahead, and with one for each column, memory does not grow with the row groups.
    options: dict[str, Any] = {"pre_buffer": False, "buffer_size": 2**20, "page_checksum_verification": True}
    with _readable(contract, path), pq.ParquetFile(path, **options) as file:
        yield file, _Metadata(path, file.schema_arrow.metadata)


class _Metadata(dict[str, Any]):
    """The metadata of a table; an entry that it lacks is a ContractError. ValueError if it is no record."""

    def __init__(self, path: Path | str, encoded: dict[bytes, bytes]):
        content = json.loads(encoded[METADATA_KEY])
        if not isinstance(content, dict):
            raise ValueError(f"metadata are a {type(content).__name__}")
        super().__init__(content)
        self._path = str(path)

    def __missing__(self, key: str) -> Any:
        raise ContractError(f"{self._path}: its metadata lack '{key}'")


@contextlib.contextmanager
def _readable(contract: Contract, path: Path | str) -> Iterator[None]:
    """What reading a damaged file raises becomes a ContractError that names the repair."""
    if not Path(path).is_file():
        raise ContractError(f"{path}: no such {contract.name} file")
    try:
        yield
    except (pa.ArrowException, ArithmeticError, LookupError, MemoryError, OSError, RecursionError,
            TypeError, ValueError) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        what, repair = f"damaged or truncated {contract.name} file ({reason})", ""
        if out_of_memory(error):  # a damaged file may claim any size
            what = f"{contract.name} file that does not fit into memory, or is damaged ({reason})"
            repair = f"{MORE_MEMORY}; or "
        raise ContractError(
            str(
                problem(
                    str(path),
                    what,
                    repair=f"{repair}delete it and run again, only what is missing is made: rm {path}",
                )
            )
        ) from error


def read_rows(contract: Contract, path: Path | str, first: int, last: int | None) -> pa.Table:
    """Rows first .. last - 1 of a table, checked; None is the end, and rows that are not there are none.

    Takes the memory of the Parquet row groups that hold them. Raises ContractError.
    """
    with opened(contract, path) as (file, _):
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = list(itertools.accumulate(sizes))
        stop = file.metadata.num_rows if last is None else last
        groups = [i for i, end in enumerate(ends) if first < end and end - sizes[i] < stop]
        table = file.read_row_groups(groups) if groups else file.schema_arrow.empty_table()
        begin = first - (ends[groups[0]] - sizes[groups[0]]) if groups else 0
        return contract.check(table.slice(begin, max(0, stop - first)), path)


def feature_matrix(table: pa.Table) -> np.ndarray:
    """Features table -> float32 array (N, d), in row order; ContractError if a number is not finite."""
    column = table["feature"].combine_chunks()
    features = np.asarray(column.flatten(), dtype=np.float32).reshape(len(column), column.type.list_size)
    # A sum takes no memory, and one of float32 in float64 cannot overflow.
    if not np.isfinite(features.sum(dtype=np.float64)):
        rows = np.flatnonzero(~np.isfinite(features.sum(axis=1, dtype=np.float64)))
        raise ContractError(f"features of image '{table['image_id'][int(rows[0])]}' are not finite")
    return features


def feature_table(image_ids: list[str], features: np.ndarray) -> pa.Table:
    """Image ids and float32 array (N, d) -> features table."""
    flat = pa.array(np.ascontiguousarray(features, dtype=np.float32).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
    return pa.table({"image_id": pa.array(image_ids, pa.string()), "feature": column})
