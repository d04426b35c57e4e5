"""Rows from files: one function per adapter kind turns a data set's own layout into the same rows.

Nothing is decoded here. Every mistake names file, line, the value seen and the values allowed.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from discern.data.images import SUFFIXES, npz_array
from discern.data.tables import CsvRow, cell, read_csv, require
from discern.data.volumes import is_volume, without_suffix
from discern.dataset_card import Adapter, Join
from discern.errors import DiscernError, did_you_mean, listed, problem

#: Folders that archive programs and file managers leave behind.
JUNK = frozenset({"__MACOSX"})


@dataclass(frozen=True)
class Row:
    """One image as the data set describes it; ``path`` is relative to the root."""

    image_id: str
    path: str
    label_name: str
    group: str | None = None
    volume: str | None = None
    official_split: str | None = None
    mask_path: str | None = None
    boxes: list[list[int]] | None = None


@dataclass
class Scan:
    """Rows, and the image files that the card's pattern leaves out."""

    rows: list[Row]
    left_out: list[str] = field(default_factory=list)


def read_rows(adapter: Adapter, root: Path, classes: list[str], volumes: bool = False) -> list[Row]:
    """Rows of a data set under ``root``, in any order; raises DiscernError for what does not fit.

    ``volumes``: its images are NIfTI volumes, and pictures beside them are not looked at.
    """
    return scan(adapter, root, classes, volumes).rows


def scan(adapter: Adapter, root: Path, classes: list[str], volumes: bool = False) -> Scan:
    """Rows and files left out; see ``read_rows``."""
    found = KINDS[adapter.kind](adapter, root, classes, volumes)
    if other := [row.path for row in found.rows if is_volume(row.path) != volumes]:
        wanted, seen = ("volumes", "pictures") if volumes else ("pictures", "volumes")
        raise listed(
            str(root),
            f"the card's modality says that images are {wanted}, {len(other)} are {seen}",
            other,
            repair="end the card's modality with 'volume' if its images are NIfTI volumes, else do not",
        )
    paths = Counter(row.path for row in found.rows)
    if twice := [path for path, n in paths.items() if n > 1]:
        raise listed(str(root), f"{len(twice)} images are named more than once", twice)
    return found


def _class_name(value: str, labels: dict[str, str], classes: list[str], where: str) -> str:
    name = labels.get(value, value)
    if name not in classes:
        hint = did_you_mean(name, [*classes, *labels])
        raise problem(where, f"unknown label '{value}'{hint}", allowed=[*classes, *labels])
    return name


def _with_ids(paths: list[str], below: str = "") -> dict[str, str]:
    """Path -> image id: the path below ``below`` without its extension, which stays where two collide."""
    stems = {path: _stem(str(PurePosixPath(path).relative_to(below))) for path in paths}
    count = Counter(stems.values())
    return {
        path: stem if count[stem] == 1 else str(PurePosixPath(path).relative_to(below))
        for path, stem in stems.items()
    }


def _stem(path: str) -> str:
    return without_suffix(path) if is_volume(path) else str(PurePosixPath(path).with_suffix(""))


# --------------------------------------------------------------------------- table


def _table(adapter: Adapter, root: Path, classes: list[str], volumes: bool) -> Scan:
    """A CSV with a row per image."""
    columns: dict[str, str | list[str]] = {"path": "path", "label": "label"}
    columns.update({str(name): source for name, source in adapter.columns.items()})
    if adapter.one_hot:
        columns["label"] = list(classes)
    rows = read_csv(root / adapter.table)
    if adapter.join is not None:
        _add_columns(rows, root, adapter.join)
    require(rows, columns.values(), root / adapter.table)
    optional = ("group", "volume", "official_split", "mask_path", "boxes")
    columns |= {c: c for c in optional if c not in columns and c in rows[0].values}
    parsed, mistakes = [], []
    for row in rows:
        try:
            parsed.append(_parse(row, columns, adapter, classes))
        except DiscernError as error:
            mistakes.append(str(error))
    if mistakes:
        raise listed(str(root / adapter.table), f"{len(mistakes)} rows do not fit the card", mistakes)
    ids = _with_ids([row.path for row in parsed])
    return Scan([Row(**{**vars(row), "image_id": ids[row.path]}) for row in parsed])


def _add_columns(rows: list[CsvRow], root: Path, join: Join) -> None:
    file, added = root / join.table, read_csv(root / join.table)
    require(rows, [join.on], root)
    require(added, [join.on], file)
    second = {row.values[join.on]: row.values for row in added}
    for row in rows:
        if row.values[join.on] not in second:
            raise problem(row.where, f"{join.on} '{row.values[join.on]}' has no row in {file}")
        row.values.update(second[row.values[join.on]])


def _parse(row: CsvRow, columns: dict[str, str | list[str]], adapter: Adapter, classes: list[str]) -> Row:
    values = {name: cell(row, source) for name, source in columns.items() if name != "label"}
    for name in ("path", "mask_path"):
        place = PurePosixPath(values.get(name) or "")
        if place.is_absolute() or ".." in place.parts:
            raise problem(row.where, f"{name} '{place}' leaves the data set's folder")
    if not values["path"]:
        raise problem(row.where, "path is empty")
    label = _hot(row, classes) if adapter.one_hot else cell(row, columns["label"])
    return Row(
        image_id="",
        path=str(values["path"]),
        label_name=_class_name(_integer(label or ""), adapter.labels, classes, row.where),
        group=values.get("group"),
        volume=values.get("volume"),
        official_split=values.get("official_split"),
        mask_path=values.get("mask_path"),
        boxes=_boxes(values.get("boxes"), row.where),
    )


def _hot(row: CsvRow, classes: list[str]) -> str:
    try:
        hot = [name for name in classes if float(row.values[name])]
    except ValueError as error:
        raise problem(row.where, f"one-hot columns hold {error}", allowed=["0", "1"]) from error
    if len(hot) != 1:
        raise problem(row.where, f"{len(hot)} class columns are 1 ({', '.join(hot)}), expected one")
    return hot[0]


def _integer(value: str) -> str:
    """'3.0' -> '3': tables with empty cells are often saved with floating-point labels."""
    return re.sub(r"^(\d+)\.0+$", r"\1", value)


def _boxes(text: str | None, where: str) -> list[list[int]] | None:
    if not text:
        return None
    try:
        boxes = [[int(v) for v in box] for box in json.loads(text)]
        valid = all(len(b) == 4 and b[0] < b[2] and b[1] < b[3] for b in boxes)
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise problem(where, f"boxes are not JSON lists of x0, y0, x1, y1: {text}")
    return boxes


# --------------------------------------------------------------------------- image_folder


def _image_folder(adapter: Adapter, root: Path, classes: list[str], volumes: bool) -> Scan:
    """A folder per class (or names that carry the class); images at any depth below it."""
    base = root / adapter.folder
    pattern = re.compile(adapter.pattern)
    rows, left_out, paths = [], [], []
    for path in _images(base, volumes) if base.is_dir() else []:
        match = pattern.search(path.name)
        if match is None:
            left_out.append(str(path.relative_to(root)))
            continue
        named = match.groupdict()
        below = path.relative_to(base).parts
        value = named.get("label") or (below[0] if len(below) > 1 else "")
        paths.append(str(path.relative_to(root)))
        rows.append((value, named.get("group"), named.get("volume"), path))
    if not rows:
        raise problem(
            str(base),
            f"no images here ({len(left_out)} left out by the pattern)" if left_out else "no images here",
            repair=f"place one folder per class here: {', '.join(_folders(adapter, classes))}",
        )
    ids = _with_ids(paths, adapter.folder)
    return Scan(
        [
            Row(ids[path], path, _class_name(value, adapter.labels, classes, str(file)), group, volume)
            for path, (value, group, volume, file) in zip(paths, rows, strict=True)
        ],
        left_out,
    )


def _folders(adapter: Adapter, classes: list[str]) -> list[str]:
    renamed = {new: old for old, new in adapter.labels.items()}
    return [renamed.get(name, name) for name in classes]


def _images(folder: Path, volumes: bool) -> Iterator[Path]:
    """Image files below ``folder``, sorted; linked folders are followed, hidden and junk ones are not."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in JUNK)
        for file in sorted(files):
            image = is_volume(file) if volumes else Path(file).suffix.lower() in SUFFIXES
            if image and not file.startswith("."):
                yield Path(place) / file


# --------------------------------------------------------------------------- npz


def _npz(adapter: Adapter, root: Path, classes: list[str], volumes: bool) -> Scan:
    """A MedMNIST archive: arrays ``<split>_images`` (N, H, W[, 3]) and ``<split>_labels`` (N, 1)."""
    file = root / adapter.file
    rows = []
    for split in ("train", "val", "test"):
        images, labels = npz_array(file, f"{split}_images"), npz_array(file, f"{split}_labels")
        flat = labels.ravel().astype(np.int64)
        if len(flat) != len(images):
            raise problem(
                str(file), f"{split}: {len(images)} images, but labels of shape {labels.shape}; one each"
            )
        for index, label in enumerate(flat):
            where = f"{file}: {split}_labels[{index}]"
            known = {str(i): name for i, name in enumerate(classes)} | adapter.labels
            name = _class_name(str(label), known, classes, where)
            locator = f"{adapter.file}#{split}_images[{index}]"
            rows.append(Row(f"{split}_{index:05d}", locator, name, official_split=split))
    return Scan(rows)


KINDS: dict[str, Callable[[Adapter, Path, list[str], bool], Scan]] = {
    "table": _table,
    "image_folder": _image_folder,
    "npz": _npz,
}
