"""The manifest: one verified row per image of a data set's pool, the table that all stages share.

Every picture is decoded once here, so that no later stage meets a damaged file, and the counts are
compared with the card, so that a half-downloaded data set is not taken for the whole.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from discern.contracts import MANIFEST, ContractError, read_json, write_json, write_table
from discern.data.adapters import Row, Scan, scan
from discern.data.adapters.rows import examples
from discern.data.originals.layout import layout_problem
from discern.data.pictures.images import Pictures
from discern.data.pictures.render import expand
from discern.data.preparation.audit import build_audit
from discern.data.preparation.card_checks import Counts, Pool, choose, compare_counts
from discern.data.preparation.duplicates import Cluster, clusters
from discern.data.preparation.inspecting import MANY, Damaged, Inspected, inspect_all
from discern.data.preparation.workers import Crew
from discern.dataset_card import DatasetCard
from discern.errors import SHOWN, DiscernError, listed

log = logging.getLogger("discern")


def prepare_dataset(
    card: DatasetCard,
    record: Path,
    manifest: Path,
    audit: Path,
    made: Path,
    inspected: Path,
    threads: int = 1,
) -> None:
    """Write ``manifest`` and ``audit`` of the data set that ``record`` (fetched.json) describes.

    ``made``: folder for pictures that are made from the files; ``inspected``: folder for what is known of
    each file, from which a job that was killed goes on. Raises one DiscernError for all that does not fit:
    files absent, or damaged and not dropped, labels outside ``card.classes``, other counts than the
    card's, dropped names that are no image, duplicates where the card refuses them.
    """
    with _patient_collection():
        _prepare(card, record, manifest, audit, made, inspected, threads)


@contextmanager
def _patient_collection() -> Iterator[None]:
    """Rows by the hundred thousand are no garbage: going through them again and again takes as long as
    reading them. So garbage is collected less often."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _prepare(
    card: DatasetCard, record: Path, manifest: Path, audit: Path, made: Path, inspected: Path, threads: int
) -> None:
    root, place = _root(card, record)
    pictures = Pictures(root, made, card.decoding)
    with Crew(pictures, threads) as crew:
        if threads > 1 and (card.n or 0) >= MANY:
            crew.start()  # they get ready while the files are listed
        found = scan(card, root)
        found = replace(found, rows=expand(found.rows, pictures))
        pool = choose(card, found.rows, str(root))
        counts = compare_counts(card, found, pool, str(root))
        _tell_scan(card, found, pool)
        images, damaged = inspect_all(pictures, pool.rows, inspected, crew)
    near = clusters(images, card.hash_distance)
    report = build_audit(card.name, images, damaged, near, card.hash_distance, found.rows)
    write_json(audit, report)
    errors = [*pool.errors, *_damage(damaged, root), *counts.errors, *_tell_duplicates(card, report, root)]
    if errors:
        raise DiscernError("\n".join(map(str, errors)))
    _tell_variant(card, counts, len(images))
    metadata = _metadata(card, found, pool, counts) | {"root": place, "made": str(made)}
    write_table(MANIFEST, manifest, _columns(card, images, near), metadata)
    log.info("%s: %d images, %s", card.name, len(images), counts.classes)


def _root(card: DatasetCard, record: Path) -> tuple[Path, str]:
    content = read_json(record)
    if not isinstance(content, dict) or not isinstance(content.get("root"), str):
        raise ContractError(f"{record}: has no `root`; fetch the data set again")
    root = Path(content["root"])
    if wrong := layout_problem(card, root):
        raise DiscernError(f"{wrong}\n  after that: rm {record}")
    return root, content["root"]


def _tell_scan(card: DatasetCard, found: Scan, pool: Pool) -> None:
    if found.left_out:
        log.info(
            "%s: pattern leaves out %d files: %s", card.name, len(found.left_out), examples(found.left_out)
        )
    for label, n in sorted(found.left_out_labels.items()):
        log.info("%s: label '%s' is left out: %d images", card.name, label, n)
    if pool.dropped:
        names = examples(row.image_id for row in pool.dropped)
        log.info("%s: %d images dropped by name: %s", card.name, len(pool.dropped), names)


def _damage(damaged: list[Damaged], root: Path) -> list[DiscernError]:
    if not damaged:
        return []
    lines = [f"{d.row.image_id}: {d.reason}" for d in damaged]
    repair = "fetch them again, or name them under `drop` in the card and lower its counts"
    return [listed(str(root), f"{len(damaged)} images cannot be used", lines, repair=repair)]


def _tell_variant(card: DatasetCard, counts: Counts, n: int) -> None:
    if counts.variant:
        log.warning(
            "%s: the variant of %d images, which the card accepts instead of %s", card.name, n, card.n
        )
    for difference in counts.variant:
        log.warning("%s: %s", card.name, difference)


def _tell_duplicates(card: DatasetCard, report: dict[str, Any], root: Path) -> list[DiscernError]:
    lines = [f"{' = '.join(c['image_ids'])} ({', '.join(c['labels'])})" for c in report["duplicates"]]
    if lines and card.duplicates == "refuse":
        repair = "name all but one of each under `drop` in the card, or set duplicates: report"
        return [listed(str(root), f"{len(lines)} clusters of identical pictures", lines, repair=repair)]
    for line in lines[:SHOWN]:
        log.warning("%s: identical pictures: %s", card.name, line)
    if lines:
        crossing = report["crossing_labels"]
        log.warning(
            "%s: %d clusters of identical pictures, %d across classes", card.name, len(lines), crossing
        )
    if (near := report["near"])["clusters"]:
        log.warning(
            "%s: %d clusters of near-duplicates, %d images; %d join classes, %d groups, %d official splits",
            card.name, near["clusters"], near["images"], near["crossing_labels"], near["crossing_groups"],
            near["crossing_official_splits"],
        )  # fmt: skip
    if shared := report["groups"]["in_several_official_splits"]:
        log.warning(
            "%s: %d groups are in several official splits: %s", card.name, len(shared), examples(shared)
        )
    return []


def _metadata(card: DatasetCard, found: Scan, pool: Pool, counts: Counts) -> dict[str, Any]:
    return {
        "dataset": card.name,
        "version": card.version,
        "reading": card.reading,
        "decoding": card.decoding.model_dump(mode="json"),
        "classes": card.class_names,
        "counts": counts.classes,
        "variant": counts.variant,
        "dropped": [
            {"image_id": row.image_id, "path": row.path, "reason": "named in the card's drop list"}
            for row in pool.dropped
        ],
        "left_out": len(found.left_out),
        "left_out_labels": found.left_out_labels,
        "outside_pool": pool.outside,
        "group_key": card.group_key,
        "hash_distance": card.hash_distance,
        "modality": card.modality,
        "title": card.title,
    }


def _columns(card: DatasetCard, images: list[Inspected], near: list[Cluster]) -> dict[str, list[Any]]:
    index = {name: i for i, name in enumerate(card.class_names)}
    cluster = {image.row.image_id: found.name for found in near for image in found.members}
    own = [f.name for f in fields(Row) if f.name not in ("path", "mask_paths")]
    rows, seen = [image.row for image in images], [image.seen for image in images]
    columns: dict[str, list[Any]] = {name: list(map(attrgetter(name), rows)) for name in own}
    for name in ("path", "mask_path", "sha256", "width", "height", "mode"):
        columns[name] = list(map(attrgetter(name), seen))
    columns["cluster"] = list(map(cluster.get, columns["image_id"]))
    return columns | {"label": [index[name] for name in columns["label_name"]]}
