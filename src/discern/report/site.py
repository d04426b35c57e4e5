"""The report: one HTML file that opens from disk, with every figure inside and no network access.

Works on a partial run: what is missing is replaced by the reason why.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from discern import paths
from discern.config import Study
from discern.contracts import write_text
from discern.matrix import Cell, cells, explained, unexplained
from discern.registry import Registry
from discern.report import facts
from discern.report.costs import Job, cost_card, measured_jobs, write_costs
from discern.report.failures import Failure, explain
from discern.report.gaps import gap_tables
from discern.report.identical import identical_models
from discern.report.layout import SPLITS, tables
from discern.report.leakage import duplicate_facts, neighbour_facts
from discern.report.pictures import embed, limits
from discern.report.records import METRIC_NAMES, Record, collect
from discern.report.score_figure import score_figure
from discern.report.table_formats import to_html

TEMPLATES = Path(__file__).parent / "templates"


def render_report(
    study: Study, registry: Registry, out: Path | str, *, partial: bool = False, root: Path | str = "."
) -> None:
    """Read every result below ``root``; write the page to ``out`` and the costs beside the tables."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    root = Path(root)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"duration": duration, "signed": signed, "size": size}
    template = environment.get_template("report.html.j2")
    jobs = measured_jobs(study, registry, root)
    write_costs(root / paths.TABLES.format(study=study.study), jobs)
    write_text(out, template.render(context(study, registry, root, jobs, partial=partial)))


def context(
    study: Study, registry: Registry, root: Path, jobs: list[Job], *, partial: bool
) -> dict[str, Any]:
    """Everything that the template shows."""
    records = collect(study, registry, root)
    gallery = _gallery(study, registry, root)
    expected = [r for r in records if r.status != "inapplicable"]
    sections = []
    every = tables(records, partial=partial)
    for protocol in dict.fromkeys(t.protocol for t in every):
        laid_out = [t for t in every if t.protocol == protocol]
        drawn = [score_figure(records, metric, protocol) for metric in ("accuracy", "macro_f1")]
        sections.append(
            {
                "protocol": protocol,
                "title": SPLITS[protocol],
                "figures": [svg for svg in drawn if svg],
                "tables": [to_html(t) for t in laid_out if not t.published],
                "published": [to_html(t) for t in laid_out if t.published],
            }
        )
    return {
        "study": study,
        "css": (TEMPLATES / "report.css").read_text(encoding="utf-8"),
        "partial": partial,
        "made": sum(r.status == "made" for r in expected),
        "expected": len(expected),
        "failures": _failures(records, gallery),
        "protocol": protocol_words(study),
        "sections": sections,
        "identical": identical_models(study, registry, root),
        "comparisons": facts.comparisons(study, records, root),
        "gaps": [to_html(t) for t in gap_tables(study, registry, records, root, partial=partial)],
        "duplicates": duplicate_facts(study, registry, root),
        "neighbours": neighbour_facts(study, registry, root),
        "gallery": gallery,
        "datasets": [facts.dataset_facts(registry.datasets[d], root) for d in study.datasets],
        "models": [
            facts.model_facts(registry.models[m], study, registry.datasets.images, root) for m in study.models
        ],
        "costs": cost_card(jobs),
        "cost_titles": _titles(study, registry),
        "versions": facts.versions(study, registry, root),
        "configuration": yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    }


def _titles(study: Study, registry: Registry) -> dict[str, str]:
    """Names of models and data sets as the page prints them."""
    cards = [registry.models[m] for m in study.models] + [registry.datasets[d] for d in study.datasets]
    return {card.name: card.title for card in cards}


def _gallery(study: Study, registry: Registry, root: Path) -> dict[str, list[dict[str, Any]]]:
    """Feature maps and saliency sheets per data set: a picture or the reason for its absence."""
    wanted = {"umap": study.selected(study.umap.datasets), "rise": explained(study, registry)}
    runnable = [c for c in cells(study, registry) if c.runs]
    counts = {
        "map": sum(c.dataset in wanted["umap"] for c in runnable),
        "rise": sum(c.dataset in wanted["rise"] for c in runnable),
    }
    bytes_of = limits(counts | {"grid": counts["map"]}, len(runnable))
    result: dict[str, list[dict[str, Any]]] = {"umap": [], "rise": []}
    for stage, rule in (("umap", "embed_umap"), ("rise", "explain_rise")):
        for dataset in wanted[stage]:
            items = [
                _item(study, registry, cell, rule, bytes_of, root)
                for cell in runnable
                if cell.dataset == dataset
            ]
            if items:
                title = registry.datasets[dataset].title
                result[stage].append({"title": title, "items": items, "note": ""})
    for dataset in study.selected(study.rise.datasets):
        if why := unexplained(registry.datasets[dataset]):
            result["rise"].append(
                {"title": registry.datasets[dataset].title, "items": [], "note": why[:1].upper() + why[1:]}
            )
    return result


def _item(
    study: Study, registry: Registry, cell: Cell, rule: str, bytes_of: dict[str, int], root: Path
) -> dict[str, Any]:
    where = {"study": study.study, "dataset": cell.dataset, "model": cell.model}
    item: dict[str, Any] = {
        "model": registry.models[cell.model].title,
        "dataset": registry.datasets[cell.dataset].title,
        "cell": cell,
    }
    if rule == "embed_umap":
        figure = root / paths.UMAP_FIGURE.format(**where)
        item["picture"] = embed(figure, bytes_of["map"])
        item["grid"] = embed(root / paths.UMAP_GRID.format(**where), bytes_of["grid"])
        item["quality"] = facts.file_metadata(root / paths.UMAP.format(**where)).get("quality", [])
    else:
        figure = root / paths.RISE_FIGURE.format(**where)
        item["picture"] = embed(figure, bytes_of["rise"])
        item["summary"] = facts.rise_summary(study, cell.dataset, cell.model, root)
    item["failure"] = None
    if item["picture"] is None:
        protocol = study.rise.protocol if rule == "explain_rise" else study.split.protocols[0]
        item["failure"] = explain(study, registry, cell, protocol, rule, root=root)
    return item


def _failures(records: Sequence[Record], gallery: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every distinct stage and reason once, with its logs and the cells that it costs."""
    costs: dict[Failure, list[str]] = {}
    for r in records:
        if r.status == "failed" and r.failure:
            costs.setdefault(r.failure, []).append(f"{r.model} on {r.dataset}, {SPLITS[r.protocol]}")
    for stage, name in (("umap", "feature map"), ("rise", "RISE")):
        for part in gallery[stage]:
            for item in part["items"]:
                if item["failure"]:
                    cell = item["cell"]
                    costs.setdefault(item["failure"], []).append(f"{cell.model} on {cell.dataset}, {name}")
    grouped: dict[tuple[str, str], dict[str, list[str]]] = {}
    for failure, names in costs.items():
        grouped.setdefault((failure.stage, failure.reason), {})[failure.log] = list(dict.fromkeys(names))
    return [{"stage": s, "reason": r, "logs": logs} for (s, r), logs in grouped.items()]


def protocol_words(study: Study) -> list[tuple[str, str]]:
    """The study's settings as sentences a reader of the paper recognises."""
    split, svm, umap, rise = study.split, study.svm, study.umap, study.rise
    by = {"image": "stratified by class", "group": "keeping every group (patient, slide, slab) on one side"}
    ways = "; and again ".join(by[p] for p in split.protocols)
    if split.duplicates == "together":
        ways += "; near-duplicates stay on one side"
    kind = {
        "squared_hinge_ovr": "squared hinge loss, one class against the rest",
        "hinge_ovo": "hinge loss, one class against another",
    }
    metric = METRIC_NAMES[svm.selection]
    masks = f"at most {rise.max_masks:,}" if rise.n_masks == "auto" else f"{rise.n_masks:,}"
    return [
        (
            "Split",
            f"{100 * split.holdout:g} % of the images are held out for testing, the rest is divided into "
            f"{split.folds} folds, {ways}. All models share these splits (seed {split.seed}).",
        ),
        (
            "Classifier",
            f"Linear SVM on standardised frozen features, {kind[svm.estimator]}, C = t · d / N with t from "
            f"{{{', '.join(f'{t:g}' for t in svm.t)}}}, chosen per fold by validation {metric}. Each of the "
            f"{split.folds} fold models is scored on the same hold-out images.",
        ),
        (
            "Feature maps",
            f"UMAP, {umap.metric} distance, n_neighbors {{{', '.join(map(str, umap.n_neighbors))}}} × "
            f"min_dist {{{', '.join(f'{d:g}' for d in umap.min_dist)}}}, seed {umap.seed}.",
        ),
        (
            "Saliency",
            f"RISE ({rise.estimator.replace('_', ' ')}) with {masks} random masks on a "
            f"{rise.grid} × {rise.grid} grid, each cell kept with probability {rise.p:g}; the classifier of "
            f"fold {rise.fold}, {SPLITS[rise.protocol]}, is explained (seed {rise.seed}).",
        ),
        (
            "Comparisons",
            f"Paired bootstrap over the hold-out images, {study.compare.n_bootstrap:,} draws, 95 % "
            f"percentile intervals (seed {study.compare.seed}). Between protocols, groups are drawn and both "
            "hold-outs are scored with the same draws.",
        ),
    ]


def duration(seconds: float) -> str:
    """12.3 -> '12.3 s', 754 -> '12 min 34 s', 8000 -> '2 h 13 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(megabytes: float) -> str:
    """297.5 -> '298 MB', 2048 -> '2.0 GB'."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def signed(value: float) -> str:
    """One decimal with its sign, a true minus, and no negative zero."""
    return "0.0" if abs(value) < 0.05 else f"{value:+.1f}".replace("-", "−")
