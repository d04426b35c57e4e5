"""What the report says about data sets, models, run times and versions, read from result files."""

from __future__ import annotations

import json
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import discern
from discern import paths
from discern.config import Study
from discern.contracts import (
    AUDIT_SHAPE,
    COMPARISONS,
    MANIFEST,
    METADATA_KEY,
    RISE,
    ContractError,
    read_record,
    read_table,
)
from discern.dataset_card import DatasetCard
from discern.model_card import MODEL_GROUPS, ModelCard
from discern.registry import Registry
from discern.report.readings import decoding_words
from discern.report.records import METRIC_NAMES, Record


def file_metadata(path: Path) -> dict[str, Any]:
    """Metadata of a table without reading its rows; empty if there is no such file."""
    import pyarrow.parquet as pq

    try:
        return dict(json.loads((pq.read_schema(path).metadata or {})[METADATA_KEY]))
    except (OSError, KeyError, ValueError):
        return {}


def dataset_facts(card: DatasetCard, root: Path) -> dict[str, Any]:
    """Counts, groups and duplicates of one data set; card values where nothing is prepared yet."""
    facts: dict[str, Any] = {
        "card": card, "n": card.n, "prepared": False, "groups": None, "duplicates": None, "dropped": 0,
        "decoding": decoding_words(card.decoding),
        "counts": [(c.title or c.name, c.count) for c in card.classes],
    }  # fmt: skip
    try:
        table, about = read_table(MANIFEST, root / paths.MANIFEST.format(dataset=card.name))
    except ContractError:
        return facts
    labels = table["label"].to_pylist()
    titles = {c.name: c.title or c.name for c in card.classes}
    counts = [(titles.get(n, n), labels.count(i)) for i, n in enumerate(about["classes"])]
    groups = {g for g in table["group"].to_pylist() if g is not None}
    facts |= {"n": len(labels), "prepared": True, "counts": counts, "groups": len(groups) or None}
    facts["dropped"] = len(about.get("dropped", []))
    audit = root / paths.AUDIT.format(dataset=card.name)
    if audit.is_file():
        seen = read_record(audit, AUDIT_SHAPE)
        facts["duplicates"] = sum(len(d["image_ids"]) - 1 for d in seen.get("duplicates", []))
        facts["crossing"] = seen.get("crossing_labels", 0)
        facts["corrupt"] = len(seen.get("corrupt", []))
    return facts


def model_facts(card: ModelCard, study: Study, images: Callable[[str], str], root: Path) -> dict[str, Any]:
    """Card, and what its features files say about preprocessing, device and speed."""
    sets = dict.fromkeys(images(d) for d in study.datasets)
    found = [file_metadata(root / paths.FEATURES.format(dataset=d, model=card.name)) for d in sets]
    found = [about for about in found if about]
    speeds = [a["images_per_second"] for a in found if a.get("images_per_second")]
    return {
        "card": card,
        "group": MODEL_GROUPS[card.group],
        "preprocess": found[0].get("preprocess") if found else _transform(card),
        "devices": ", ".join(sorted({a["device"] for a in found if a.get("device")})),
        "speed": statistics.median(speeds) if speeds else None,
        "digest": found[0].get("weights_digest", "")[:16] if found else "",
        "arithmetic": _arithmetic(found),
    }


def _arithmetic(found: list[dict[str, Any]]) -> str:
    """What was not plain float32, and the most that it changed on any data set; empty for float32."""
    moved = [a["deviation"]["max_relative"] for a in found if a.get("deviation")]
    if not moved:
        return ""
    words = [found[0]["precision"], *(["compiled"] if found[0].get("compile") else [])]
    how = ", ".join(words)
    return f"{how}; features differ from float32 by up to {max(moved):.1e} of their largest value"


def _transform(card: ModelCard) -> str:
    if card.volume is not None:
        return f"{' x '.join(map(str, card.volume.size))} voxels"
    p = card.transform
    size = " x ".join(map(str, p.size)) if isinstance(p.size, tuple) else str(p.size)
    size += "" if p.crop is None else f", crop {p.crop}"
    return f"{p.resize} to {size}, {p.interpolation}"


def versions(study: Study, registry: Registry, root: Path) -> list[tuple[str, dict[str, str]]]:
    """Library versions by stage, as the result files themselves record them."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def note(stage: str, path: str) -> None:
        for library, version in file_metadata(root / path).get("versions", {}).items():
            found[stage][library].add(str(version))

    for dataset in study.datasets:
        for model in study.models:
            where = {"study": study.study, "dataset": dataset, "model": model}
            environment = registry.models[model].environment
            mine = where | {"dataset": registry.datasets.images(dataset)}
            note(f"Features, environment {environment}", paths.FEATURES.format(**mine))
            note("Feature maps", paths.UMAP.format(**where))
            note(f"RISE, environment {environment}", paths.RISE.format(**where))
            for protocol in study.split.protocols:
                note("Linear SVMs", paths.SCORES.format(protocol=protocol, **where))
    note("Comparisons", paths.COMPARISONS.format(study=study.study))
    here = {"discern": discern.__version__, "python": platform.python_version()}
    here |= {name: packages.version(name) for name in ("jinja2", "matplotlib", "numpy", "pyarrow")}
    stages = [(s, {k: ", ".join(sorted(v)) for k, v in sorted(libs.items())}) for s, libs in found.items()]
    return [*stages, ("Tables and report", here)]


def rise_summary(study: Study, dataset: str, model: str, root: Path) -> dict[str, Any] | None:
    """Mean target share against target area over the images that have a target, or None.

    ``noise`` is the mean share of the maps' spread that is sampling error, in percent; ``masks`` the median
    number of masks of an image.
    """
    try:
        table, about = read_table(
            RISE, root / paths.RISE.format(study=study.study, dataset=dataset, model=model)
        )
    except ContractError:
        return None
    rows = table.drop(["saliency", "saliency_error"]).to_pylist()
    with_target = [r for r in rows if r["target_share"] is not None]
    summary = {
        "n": len(rows), "correct": sum(r["correct"] for r in rows), "about": about, "targets": None,
        "masks": statistics.median(r["n_masks"] for r in rows),
        "noise": 100 * statistics.fmean(r["standard_error"] for r in rows),
    }  # fmt: skip
    if with_target:
        share = statistics.fmean(r["target_share"] for r in with_target)
        area = statistics.fmean(r["target_area"] for r in with_target)
        hits = [r["hottest_in_target"] for r in with_target if r["hottest_in_target"] is not None]
        summary |= {
            "targets": len(with_target), "share": 100 * share, "area": 100 * area,
            "ratio": share / area if area else None, "hits": 100 * statistics.fmean(hits) if hits else None,
        }  # fmt: skip
    return summary


def comparisons(study: Study, records: list[Record], root: Path) -> list[dict[str, Any]]:
    """Per data set, protocol and metric: models and the matrix of row minus column in points."""
    try:
        table, _ = read_table(COMPARISONS, root / paths.COMPARISONS.format(study=study.study))
    except ContractError:
        return []
    pairs: dict[tuple[str, str, str], dict[tuple[str, str], tuple[float, float, float]]] = defaultdict(dict)
    tests: dict[tuple[str, str, str], int] = {}
    for r in table.to_pylist():
        key = (r["dataset"], r["protocol"], r["metric"])
        d, low, high = (100 * r[c] for c in ("difference", "low", "high"))
        pairs[key][r["model_a"], r["model_b"]] = (d, low, high)
        pairs[key][r["model_b"], r["model_a"]] = (-d, -high, -low)
        tests[key] = r["n_test"]
    titles = {r.model: r.model_title for r in records} | {r.dataset: r.dataset_title for r in records}
    order = {name: i for i, name in enumerate([*study.datasets, *study.split.protocols])}
    result = []
    for key in sorted(pairs, key=lambda k: (order.get(k[0], -1), order.get(k[1], -1), k[2])):
        models = [m for m in study.models if any(m == a for a, _ in pairs[key])]
        rows = [[pairs[key].get((a, b)) for b in models] for a in models]
        decided = sum(1 for d in pairs[key].values() if d[1] > 0 or d[2] < 0) // 2
        result.append(
            {
                "dataset": titles.get(key[0], key[0]), "protocol": key[1], "n_test": tests[key],
                "metric": METRIC_NAMES.get(key[2], key[2]), "models": [titles[m] for m in models],
                "rows": rows, "decided": decided, "pairs": len(pairs[key]) // 2,
            }
        )  # fmt: skip
    return result
