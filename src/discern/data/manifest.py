"""The manifest: one verified row per image of a data set's pool, the table that all stages share.

Every picture is decoded once here, so that no later stage meets a damaged file, and the counts are
compared with the card, so that a half-downloaded data set is not taken for the whole.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from discern.contracts import MANIFEST, ContractError, read_json, write_json, write_table
from discern.data.adapters import Row, Scan, scan
from discern.data.audit import Damaged, Inspected, build_audit, inspect
from discern.dataset_card import DatasetCard
from discern.errors import SHOWN, did_you_mean, listed, problem

log = logging.getLogger("discern")


def prepare_dataset(card: DatasetCard, record: Path, manifest: Path, audit: Path, threads: int = 1) -> None:
    """Write ``manifest`` and ``audit`` of the data set that ``record`` (fetched.json) describes.

    Raises DiscernError if files are absent, damaged and not named in ``card.drop``, labelled outside
    ``card.classes``, not as many as the card says, or duplicated where the card refuses that.
    """
    root, place = _root(card, record)
    found = scan(card.adapter, root, card.class_names, card.volumetric)
    pool, outside = _pool(card, found, root)
    rows, dropped = _drop(card, pool, root)
    images, damaged = _inspect(root, rows, threads)
    report = build_audit(card.name, images, damaged)
    write_json(audit, report)
    _refuse_damaged(damaged, root)
    counts = _counts(card, images, dropped, root)
    _tell_duplicates(card, report, root)
    metadata = {
        "dataset": card.name,
        "version": card.version,
        "root": place,
        "classes": card.class_names,
        "counts": counts,
        "dropped": [
            {"image_id": row.image_id, "path": row.path, "reason": "named in the card's drop list"}
            for row in dropped
        ],
        "left_out": len(found.left_out),
        "outside_pool": outside,
        "group_key": card.group_key,
        "modality": card.modality,
        "title": card.title,
    }
    write_table(MANIFEST, manifest, _columns(card, images), metadata)
    log.info("%s: %d images, %s", card.name, len(images), counts)


def _root(card: DatasetCard, record: Path) -> tuple[Path, str]:
    content = read_json(record)
    if not isinstance(content, dict) or not isinstance(content.get("root"), str):
        raise ContractError(f"{record}: has no `root`; fetch the data set again")
    root = Path(content["root"])
    # The record itself may lie in the folder.
    names = {p.name for p in root.iterdir() if p.name[0] != "."} if root.is_dir() else set()
    if not names - {record.name}:
        adapter = card.adapter
        wanted = {
            "table": adapter.table,
            "npz": adapter.file,
            "image_folder": f"{adapter.folder or '.'}/<one folder per class>",
        }[adapter.kind]
        state = "is empty" if root.is_dir() else "does not exist"
        raise problem(
            str(root),
            f"folder of data set '{card.name}' {state}; looked for {wanted}",
            repair=f"place the data set there, or fetch it again: rm {record}",
        )
    return root, content["root"]


def _pool(card: DatasetCard, found: Scan, root: Path) -> tuple[list[Row], dict[str, int]]:
    """Rows of the pool, and the number of images in each official split outside it."""
    if found.left_out:
        log.info(
            "%s: pattern leaves out %d files, e.g. %s", card.name, len(found.left_out), found.left_out[0]
        )
    if card.pool is None:
        return found.rows, {}
    splits = Counter(row.official_split or "" for row in found.rows)
    if unknown := [name for name in card.pool if name not in splits]:
        raise problem(str(root), f"no image has official split '{unknown[0]}'", allowed=sorted(splits))
    outside = {name: n for name, n in sorted(splits.items()) if name not in card.pool}
    return [row for row in found.rows if row.official_split in card.pool], outside


def _drop(card: DatasetCard, rows: list[Row], root: Path) -> tuple[list[Row], list[Row]]:
    known = {row.image_id for row in rows}
    for name in card.drop:
        if name not in known:
            raise problem(str(root), f"the card drops '{name}', not an image{did_you_mean(name, known)}")
    dropped = [row for row in rows if row.image_id in card.drop]
    for row in dropped:
        log.info("%s: dropped by name: %s", card.name, row.image_id)
    return [row for row in rows if row.image_id not in card.drop], dropped


def _inspect(root: Path, rows: list[Row], threads: int) -> tuple[list[Inspected], list[Damaged]]:
    """Decode every picture; results sorted by image id."""
    images: list[Inspected] = []
    damaged: list[Damaged] = []
    rows = sorted(rows, key=lambda row: row.image_id)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        results = pool.map(partial(inspect, root), rows)
        for result in tqdm(results, total=len(rows), desc="decode", file=sys.stderr, mininterval=10):
            if isinstance(result, Damaged):
                damaged.append(result)
            else:
                images.append(result)
    return images, damaged


def _refuse_damaged(damaged: list[Damaged], root: Path) -> None:
    if damaged:
        raise listed(
            str(root),
            f"{len(damaged)} images cannot be used",
            [f"{d.row.image_id}: {d.reason}" for d in damaged],
            repair="fetch them again, or name them under `drop` in the card and lower its counts",
        )


def _counts(card: DatasetCard, images: list[Inspected], dropped: list[Row], root: Path) -> dict[str, int]:
    """Images per class in canonical order; raises where the card says otherwise."""
    seen = Counter(image.row.label_name for image in images)
    counts = {entry.name: seen[entry.name] for entry in card.classes}
    differences = [
        f"class '{entry.name}': {counts[entry.name]} images, card says {entry.count}"
        for entry in card.classes
        if entry.count is not None and entry.count != counts[entry.name]
    ]
    differences += [f"class '{name}': no images" for name, n in counts.items() if n == 0]
    if card.n is not None and card.n != len(images):
        accepted = sorted({card.n, *card.accepted_n})
        differences.append(f"in all: {len(images)} images, card says {' or '.join(map(str, accepted))}")
    if differences and not (len(images) in card.accepted_n and all(counts.values())):
        what = f"found other counts than the card ({len(dropped)} dropped by name)"
        raise listed(
            str(root),
            what,
            differences,
            repair="fetch the data set again; for another release, copy the card and set its counts",
        )
    for difference in differences:
        log.warning("%s: %s; accepted, the total is in accepted_n", card.name, difference)
    return counts


def _tell_duplicates(card: DatasetCard, report: dict[str, Any], root: Path) -> None:
    lines = [
        f"{' = '.join(cluster['image_ids'])} ({', '.join(cluster['labels'])})"
        for cluster in report["duplicates"]
    ]
    if lines and card.duplicates == "refuse":
        raise listed(
            str(root),
            f"{len(lines)} clusters of identical pictures",
            lines,
            repair="name all but one of each under `drop` in the card, or set duplicates: report",
        )
    for line in lines[:SHOWN]:
        log.warning("%s: identical pictures: %s", card.name, line)
    if lines:
        crossing = report["crossing_labels"]
        log.warning(
            "%s: %d clusters of identical pictures, %d across classes", card.name, len(lines), crossing
        )


def _columns(card: DatasetCard, images: list[Inspected]) -> dict[str, list[Any]]:
    index = {name: i for i, name in enumerate(card.class_names)}
    columns: dict[str, list[Any]] = {
        field.name: [getattr(image.row, field.name) for image in images] for field in fields(Row)
    }
    for name in ("sha256", "width", "height", "mode"):
        columns[name] = [getattr(image, name) for image in images]
    return columns | {"label": [index[image.row.label_name] for image in images]}
