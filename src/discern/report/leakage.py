"""What the report says about leakage: duplicates and where they lie, and neighbours in feature space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discern import paths
from discern.config import Study
from discern.contracts import AUDIT_SHAPE, MANIFEST, ContractError, read_json, read_record, read_table
from discern.matrix import cells, protocols
from discern.registry import Registry
from discern.report.facts import file_metadata
from discern.report.failures import explain
from discern.report.pictures import Strip, strips

SHOWN_PAIRS = 20  # of those that the JSON file lists


def duplicate_facts(study: Study, registry: Registry, root: Path) -> list[dict[str, Any]]:
    """Per prepared data set: numbers of clusters, what they cross, and a few of their pictures.

    What an audit or a split does not say is None and not shown.
    """
    result = []
    for name in study.datasets:
        try:
            table, about = read_table(MANIFEST, root / paths.MANIFEST.format(dataset=name))
            audit = read_record(root / paths.AUDIT.format(dataset=name), AUDIT_SHAPE)
        except ContractError:
            continue
        columns = ["image_id", "path", "label_name", "group", "official_split"]
        images = {r["image_id"]: r for r in table.select(columns).to_pylist()}
        exact = audit.get("duplicates", [])
        near = _near(audit, exact)
        clusters = [_judged(c, images) for c in [*(near or []), *_beside(exact, near or [])]]
        result.append(
            {
                "title": registry.datasets[name].title,
                "exact": len(exact),
                "near": None if near is None else len(near),
                "images": len({i for c in clusters for i in c["image_ids"]}),
                "n": len(images),
                "labels": sum(len(c["labels"]) > 1 for c in clusters),
                "groups": sum(len(c["groups"]) > 1 for c in clusters) if _known(images, "group") else None,
                "splits": sum(len(c["splits"]) > 1 for c in clusters)
                if _known(images, "official_split")
                else None,
                "shared": _shared(audit),
                "straddling": {p: _straddling(study, name, p, root) for p in study.split.protocols},
                "strips": _pictures(clusters, images, about, root),
            }
        )
    return result


def _near(audit: dict[str, Any], exact: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The clusters of more than equal pictures; None if none were looked for."""
    if "near_duplicates" not in audit:
        return None
    known = {frozenset(c["image_ids"]) for c in exact}
    return [{"kind": "near", **c} for c in audit["near_duplicates"] if frozenset(c["image_ids"]) not in known]


def _beside(exact: list[dict[str, Any]], near: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exact clusters that lie in no near cluster, so that no image is counted twice."""
    inside = {image for c in near for image in c["image_ids"]}
    return [c for c in exact if inside.isdisjoint(c["image_ids"])]


def _judged(cluster: dict[str, Any], images: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A cluster with the classes, groups and official splits in it: the audit's words, or the manifest's."""
    members = [images[i] for i in cluster["image_ids"] if i in images]

    def values(key: str, column: str) -> set[str]:
        return {v for v in [*cluster.get(key, []), *(m[column] for m in members)] if v is not None}

    return {
        "image_ids": cluster["image_ids"],
        "labels": values("labels", "label_name"),
        "groups": values("groups", "group"),
        "splits": values("official_splits", "official_split"),
        # Pictures that differ may have one hash: what the audit calls near is not equal at 0 bits.
        "bits": cluster.get("max_distance", 0) if cluster.get("kind") == "near" else None,
    }


def _shared(audit: dict[str, Any]) -> int | None:
    """Groups that are in several of the data set's own parts; None if it has none, or did not look."""
    groups = audit.get("groups", {})
    return len(groups["in_several_official_splits"]) if groups.get("n") else None


def _known(images: dict[str, dict[str, Any]], column: str) -> bool:
    return any(r[column] is not None for r in images.values())


def _straddling(study: Study, dataset: str, protocol: str, root: Path) -> dict[str, int | None]:
    where = {"study": study.study, "dataset": dataset, "protocol": protocol}
    about = file_metadata(root / paths.SPLITS.format(**where))
    return {kind: about.get(f"straddling_{kind}") for kind in ("clusters", "groups")}


def _pictures(
    clusters: list[dict[str, Any]], images: dict[str, dict[str, Any]], about: dict[str, Any], root: Path
) -> list[Strip]:
    """Strips of the clusters that matter most: across classes, groups, official splits, then the rest."""

    def weight(c: dict[str, Any]) -> tuple[Any, ...]:
        crosses = [len(c[key]) > 1 for key in ("labels", "groups", "splits")]
        return (*(not x for x in crosses), -1 if c["bits"] is None else -2 - c["bits"], c["image_ids"])

    chosen = []
    for c in sorted(clusters, key=weight):
        kind = "equal" if c["bits"] is None else f"up to {c['bits']} of 64 bits apart"
        ids = [i for i in c["image_ids"] if i in images]
        chosen.append(([images[i]["path"] for i in ids], ids, f"{' / '.join(sorted(c['labels']))}, {kind}"))
    return strips(chosen, about, root)


def neighbour_facts(study: Study, registry: Registry, root: Path) -> list[dict[str, Any]]:
    """Per data set with a split and a model that is no control: what find_neighbours found, or why not."""
    result = []
    for name in study.datasets:
        card = registry.datasets[name]
        judges = [
            c
            for c in cells(study, registry)
            if c.dataset == name and c.runs and registry.models[c.model].group != "control"
        ]
        ways = protocols(study, card)
        if not judges or not ways:
            continue
        facts: dict[str, Any] = {"title": card.title, "found": None, "failure": None, "strips": []}
        file = root / paths.NEIGHBOURS.format(study=study.study, dataset=name)
        try:
            facts["found"] = _named(read_json(file), registry)
        except ContractError:
            way = "image" if "image" in ways else ways[0]
            facts["failure"] = explain(study, registry, judges[0], way, "find_neighbours", root=root)
        else:
            facts["strips"] = _pair_pictures(facts["found"], name, root)
        facts["file"] = paths.NEIGHBOURS.format(study=study.study, dataset=name)
        result.append(facts)
    return result


def _named(found: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """Models by title, those that left the registry left out; the first pairs."""
    models = [
        m | {"title": registry.models[m["model"]].title}
        for m in found["models"]
        if m["model"] in registry.models
    ]
    return found | {"models": models, "pairs": found["pairs"][:SHOWN_PAIRS]}


def _pair_pictures(found: dict[str, Any], dataset: str, root: Path) -> list[Strip]:
    try:
        table, about = read_table(MANIFEST, root / paths.MANIFEST.format(dataset=dataset))
    except ContractError:
        return []
    paths_of = dict(zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True))
    chosen = []
    for pair in found["pairs"]:
        if all(i in paths_of for i in pair["image_ids"]):
            where = "across the hold-out" if pair["straddles"] else "on one side"
            words = f"{' / '.join(dict.fromkeys(pair['labels']))}, {where}"
            chosen.append(([paths_of[i] for i in pair["image_ids"]], pair["image_ids"], words))
    return strips(chosen, about, root)
