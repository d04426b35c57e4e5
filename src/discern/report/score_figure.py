"""Scores at a glance: models down, data sets across, a dot per cell with its deviation over folds.

The SVG draws black as ``currentColor`` and has no background, so it follows a page's light or dark
theme and is black on white by itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from discern.model_card import MODEL_GROUPS
from discern.report.figures import PALETTE
from discern.report.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # stands for currentColor until the text is written
COLOURS = {
    "medical_vlm": PALETTE[1],
    "modality_specific": PALETTE[5],
    "volumetric": PALETTE[3],
    "non_medical_vlm": PALETTE[0],
    "non_vlm": PALETTE[2],
    "control": "#8a8a8a",
    "own": PALETTE[4],
}
NAMES = {"accuracy": "Accuracy (%)", "macro_f1": "Macro-F1 (%)"}
PER_ROW = 4
WIDTH = 10.2  # inches
LETTER = 0.6  # width of a bold letter, in font sizes
GAP = 0.12  # between panels, in panels


def score_figure(records: Sequence[Record], metric: str, protocol: str) -> str:
    """SVG text of the dot plot, or an empty string where no cell is made.

    Open diamonds are published values; the dotted line is the share of the largest class (accuracy).
    """
    chosen = [r for r in records if r.protocol == protocol and r.status != "inapplicable"]
    made = [r for r in chosen if metric in r.scores]
    if not made:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    groups = list(MODEL_GROUPS)
    titles = {r.model: r.model_title for r in chosen}
    models = sorted(titles, key=lambda m: groups.index(next(r.group for r in chosen if r.model == m)))
    datasets = list(dict.fromkeys(r.dataset for r in chosen))
    across = min(PER_ROW, len(datasets))
    down = -(-len(datasets) // across)
    height = 0.21 * len(models) + 0.62
    total = height * down + 0.5
    margin = min(0.4, (0.066 * max(map(len, titles.values())) + 0.2) / WIDTH)  # room for the longest name
    shown = [s for r in chosen for s in (r.scores.get(metric), r.published.get(metric)) if s]
    lowest = min(s.mean - (s.sd or 0) for s in shown)
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": metric + protocol, "font.size": 8.5}
    options["text.parse_math"] = False  # a title may hold dollar signs
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(WIDTH, total))
        figure.patch.set_alpha(0)
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        panel = 72 * WIDTH * (0.99 - margin) / (across + GAP * (across - 1))  # points
        for axes, dataset in zip(grid.ravel(), datasets, strict=False):
            _panel(axes, [r for r in chosen if r.dataset == dataset], metric, models, titles)
            _title(axes, next(r.dataset_title for r in chosen if r.dataset == dataset), panel)
            axes.set_xlim(max(0, 5 * (lowest // 5)) - 2, 101.5)
        for axes in grid.ravel()[len(datasets) :]:
            axes.set_axis_off()
        _legend(figure, chosen, metric)
        figure.text(
            0.003, 1 - 0.11 / total, NAMES[metric], color=INK, fontsize=10, weight="bold", va="center"
        )
        figure.subplots_adjust(
            left=margin, right=0.99, wspace=GAP, hspace=0.62 / (height - 0.62),
            top=1 - 0.73 / total, bottom=0.27 / total,
        )  # fmt: skip
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _themed(out.getvalue(), f"{metric}-{protocol}")


def _panel(axes: Axes, records: list[Record], metric: str, models: list[str], titles: dict[str, str]) -> None:
    first = records[0]
    if metric == "accuracy" and first.largest_class is not None:
        axes.axvline(first.largest_class, color=INK, alpha=0.5, linestyle=":", linewidth=1)
    at = {r.model: models.index(r.model) for r in records}
    for group, colour in COLOURS.items():
        made = [r for r in records if r.group == group and metric in r.scores]
        if made:
            axes.errorbar(
                [r.scores[metric].mean for r in made], [at[r.model] for r in made],
                xerr=[r.scores[metric].sd or 0 for r in made],
                fmt="o", markersize=4.6, color=colour, elinewidth=1.6, zorder=3,
            )  # fmt: skip
    known = [r for r in records if metric in r.published]
    axes.plot(
        [r.published[metric].mean for r in known], [at[r.model] for r in known],
        "D", markersize=4.5, markerfacecolor="none", color=INK, zorder=2,
    )  # fmt: skip
    for r in records:
        if metric not in r.scores:
            axes.text(
                0.5, at[r.model], "—", transform=axes.get_yaxis_transform(), ha="center", va="center",
                fontsize=8.5, color=INK, alpha=0.65,
            )  # fmt: skip
    axes.set_yticks(range(len(models)), [titles[m].replace("$", r"\$") for m in models])
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.tick_params(colors=INK, length=0, labelsize=8.5, labelbottom=True)
    axes.grid(axis="x", color=INK, alpha=0.14, linewidth=0.7)
    axes.grid(axis="y", color=INK, alpha=0.06, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _title(axes: Axes, title: str, width: float) -> None:
    """Set so small that it fits over a panel of ``width`` points: names of readings are long."""
    size = min(9, width / (LETTER * max(1, len(title))))
    axes.set_title(title.replace("$", r"\$"), fontsize=size, color=INK, loc="left", weight="bold")


def _legend(figure: Figure, records: list[Record], metric: str) -> None:
    from matplotlib.lines import Line2D

    present = {r.group for r in records}
    marks = [
        (Line2D([], [], linestyle="", marker="o", color=COLOURS[g]), title)
        for g, title in MODEL_GROUPS.items()
        if g in present
    ]
    if any(metric in r.published for r in records):
        marks.append(
            (Line2D([], [], linestyle="", marker="D", markerfacecolor="none", color=INK), "Published")
        )
    if metric == "accuracy":
        marks.append((Line2D([], [], linestyle=":", color=INK), "Largest class"))
    figure.legend(
        *zip(*marks, strict=True), loc="upper left", ncols=len(marks), frameon=False, labelcolor=INK,
        fontsize=8.5, handletextpad=0.2, handlelength=1.4, columnspacing=1.1, borderpad=0,
        borderaxespad=0, bbox_to_anchor=(0, 1 - 0.25 / figure.get_figheight()),
    )  # fmt: skip


def _themed(svg: str, prefix: str) -> str:
    """Bare ``<svg>`` element, ids made unique for a page with several, ink in the page's colour."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}-", svg)
    svg = re.sub(r"font: (.*?)'DejaVu Sans'[^;\"]*", r"font: \1system-ui, 'DejaVu Sans', sans-serif", svg)
    return svg.replace(INK, "currentColor").strip() + "\n"
