"""A NumPy archive such as MedMNIST's: arrays of images and of labels."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from discern.adapter_card import Npz
from discern.data.adapters.rows import Collector, Request, Scan
from discern.data.pictures.containers import npz_array
from discern.errors import DiscernError, problem


def read(adapter: Npz, request: Request) -> Scan:
    """One row for each image of the arrays; labels are class names, or numbers in canonical order."""
    collector = Collector(request, adapter.labels, indexed=True)
    for split in request.parts(adapter.splits):
        try:
            _read(adapter, request, split, collector)
        except DiscernError as error:  # what is wrong with the next part is told as well
            collector.errors.append(error)
    return collector.scan()


def _read(adapter: Npz, request: Request, split: str, collector: Collector) -> None:
    name, images, targets, groups = (
        text.replace("{split}", split).lstrip("_")
        for text in (adapter.file, adapter.images, adapter.targets, adapter.groups)
    )
    file = request.root / name
    if not file.is_file():
        there = ", ".join(sorted(other.name for other in request.root.glob("*.npz"))) or "none"
        repair = "fetch the data set again, or correct adapter.file in the card"
        raise problem(str(file), f"no such file; archives in the folder: {there}", repair=repair)
    n = _length(file, images)
    labels = _labels(file, targets, request.classes)
    of_groups = [_text(g) for g in npz_array(file, groups).ravel().tolist()] if groups else [None] * n
    for array, values in ((targets, labels), (groups, of_groups)):
        if len(values) != n:
            raise problem(str(file), f"{images} has {n} images, {array} {len(values)} values; one each")
    for index, (label, group) in enumerate(zip(labels, of_groups, strict=True)):
        collector.add(
            f"{name}#{images}[{index}]",
            label,
            f"{file}: {targets}[{index}]",
            image_id=f"{split or 'image'}_{index:05d}",
            official_split=split or None,
            group=group or None,
        )


def _length(file: Path, array: str) -> int:
    """Number of images in an array, from its header: the array may be larger than the memory."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{array}.npy") as member:
            version = np.lib.format.read_magic(member)
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, *_ = read[version[0]](member)
    except Exception:
        shape = npz_array(file, array).shape  # which says what is wrong with the archive
    if len(shape) not in (3, 4):
        raise problem(str(file), f"{array} has shape {shape}", allowed=["(N, H, W)", "(N, H, W, channels)"])
    return int(shape[0])


def _labels(file: Path, array: str, classes: list[str]) -> list[str]:
    """Labels (N,), (N, 1), or one-hot (N, classes), as text."""
    values = npz_array(file, array)
    if values.ndim == 2 and values.shape[1] > 1:
        if values.shape[1] != len(classes):
            what = f"{array} has {values.shape[1]} columns, the card {len(classes)} classes"
            raise problem(str(file), what, allowed=["(N,)", "(N, 1)", "one-hot (N, classes)"])
        odd = np.flatnonzero((values != 0).sum(axis=1) != 1)
        if len(odd):
            raise problem(str(file), f"{array}: not one column is 1 in {len(odd)} rows, first {odd[0]}")
        values = (values != 0).argmax(axis=1)
    return [_text(value) for value in values.ravel().tolist()]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(int(value) if isinstance(value, bool) else value).strip()
