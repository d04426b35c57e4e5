"""Feature maps: one UMAP setting as a figure, the whole grid as a contact sheet.

Each class has its own pair of colour and marker, so maps can be read without colour vision. Files are
palette PNGs of about 1,000 pixels, small enough to embed in the report by the dozen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.contracts import MANIFEST, UMAP, atomic, read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe & Ito 2008; yellow last, because it is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
DPI = 110
PAPER_SETTING = (15, 0.1)  # the defaults of umap-learn, shown large
GRID_POINTS = 3000  # more per small panel only make a blot and a large file


@dataclass(frozen=True)
class Maps:
    """All settings of one UMAP table in the manifest's terms."""

    title: str
    classes: list[str]
    settings: dict[tuple[int, float], tuple[np.ndarray, np.ndarray]]  # -> xy (N, 2), labels (N,)
    trustworthiness: dict[tuple[int, float], float]
    n: int


def read_maps(table: Path | str, manifest: Path | str) -> Maps:
    """Join a UMAP table with the labels of its manifest."""
    points, about = read_table(UMAP, table)
    images, facts = read_table(MANIFEST, manifest)
    label_of = dict(zip(images["image_id"].to_pylist(), images["label"].to_pylist(), strict=True))
    labels = np.array([label_of[i] for i in points["image_id"].to_pylist()])
    xy = np.column_stack([points["x"].to_numpy(), points["y"].to_numpy()])
    neighbours, distances = points["n_neighbors"].to_numpy(), points["min_dist"].to_numpy()
    settings = {}
    for key in sorted(set(zip(neighbours.tolist(), distances.tolist(), strict=True))):
        rows = (neighbours == key[0]) & (distances == key[1])
        settings[key] = (xy[rows], labels[rows])
    quality = {
        (q["n_neighbors"], q["min_dist"]): q["trustworthiness"]
        for q in about.get("quality", [])
        if q.get("trustworthiness") is not None
    }
    n = len(next(iter(settings.values()))[1])
    name = f"{about.get('model', '')} on {facts.get('title') or facts.get('dataset', '')}, n = {n:,}"
    return Maps(name, list(facts["classes"]), settings, quality, n)


def nearest_setting(settings: list[tuple[int, float]]) -> tuple[int, float]:
    """The grid setting nearest to n_neighbors 15 (by ratio), then to min_dist 0.1."""
    return min(settings, key=lambda s: (abs(math.log(s[0] / PAPER_SETTING[0])), abs(s[1] - PAPER_SETTING[1])))


def umap_figure(table: Path | str, manifest: Path | str, out: Path | str) -> None:
    """Draw the setting nearest to n_neighbors 15, min_dist 0.1 as a PNG.

    ``table`` is a UMAP parquet, ``manifest`` the manifest of the same data set.
    """
    maps = read_maps(table, manifest)
    key = nearest_setting(list(maps.settings))
    figure = _canvas(9.1, 6.2)
    axes = figure.add_axes((0.01, 0.02, 0.7, 0.875))
    _draw(axes, maps, key, size=float(np.clip(9000 / maps.n, 3, 26)))
    figure.text(0.012, 0.958, _plain(maps.title), fontsize=13, weight="bold", va="center")
    figure.text(0.012, 0.918, _setting_text(maps, key, long=True), fontsize=9.5, color="#444", va="center")
    _legend(figure, maps, (0.72, 0.895))
    _save(figure, out)


def umap_grid(table: Path | str, manifest: Path | str, out: Path | str) -> None:
    """Draw every setting as a PNG contact sheet: n_neighbors down, min_dist across."""
    maps = read_maps(table, manifest)
    neighbours = sorted({k[0] for k in maps.settings})
    distances = sorted({k[1] for k in maps.settings})
    side, top, right = float(np.clip(8.1 / len(distances), 1.2, 3.2)), 0.78, 2.6
    width = max(side * len(distances), 4.0) + right
    height = (side + 0.2) * len(neighbours) + top
    figure = _canvas(width, height)
    for row, k in enumerate(neighbours):
        for column, distance in enumerate(distances):
            if (k, distance) not in maps.settings:
                continue
            left = column * side + 0.04
            bottom = height - top - (row + 1) * (side + 0.2) + 0.2
            axes = figure.add_axes(
                (left / width, bottom / height, (side - 0.08) / width, (side - 0.06) / height)
            )
            _draw(
                axes, maps, (k, distance), size=float(np.clip(1400 * side / maps.n, 1, 9)), limit=GRID_POINTS
            )
            axes.set_title(_setting_text(maps, (k, distance)), fontsize=min(8.5, 4.4 * side), pad=2.5)
    shown = f", {GRID_POINTS:,} drawn" if maps.n > GRID_POINTS else ""
    figure.text(
        0.04 / width, 1 - 0.16 / height, _plain(maps.title + shown), fontsize=12, weight="bold", va="center"
    )
    caption = "k = n_neighbors, d = min_dist, T = trustworthiness"
    figure.text(0.04 / width, 1 - 0.38 / height, caption, fontsize=8.5, color="#444", va="center")
    _legend(figure, maps, (1 - (right - 0.1) / width, 1 - top / height))
    _save(figure, out)


def _setting_text(maps: Maps, key: tuple[int, float], *, long: bool = False) -> str:
    trust = maps.trustworthiness.get(key)
    if long:
        ending = "" if trust is None else f", trustworthiness {trust:.3f}"
        return f"UMAP, n_neighbors = {key[0]}, min_dist = {key[1]:g}{ending}"
    return f"k {key[0]}  d {key[1]:g}" + ("" if trust is None else f"  T {trust:.3f}")


def _canvas(width: float, height: float) -> Figure:
    # No pyplot: it would keep every figure and look for a display.
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rcParams["text.parse_math"] = False  # a title may hold dollar signs

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style_of(label: int) -> dict[str, Any]:
    """Colour and marker of a class; unique up to 64 classes."""
    return {
        "color": PALETTE[label % len(PALETTE)],
        "marker": MARKERS[label // len(PALETTE) % len(MARKERS)],
    }


def _draw(axes: Axes, maps: Maps, key: tuple[int, float], size: float, limit: int | None = None) -> None:
    xy, labels = maps.settings[key]
    if limit is not None and len(xy) > limit:
        keep = np.random.default_rng(0).permutation(len(xy))[:limit]
        xy, labels = xy[keep], labels[keep]
    counts = np.bincount(labels, minlength=len(maps.classes))
    for label in np.argsort(-counts, kind="stable"):  # rare classes last, on top
        if counts[label]:
            rows = labels == label
            style = style_of(int(label))
            options = {"color": style["color"], "marker": style["marker"]} | _edge(style)
            axes.scatter(xy[rows, 0], xy[rows, 1], s=size, alpha=0.85, **options)
    centre = (xy.min(axis=0) + xy.max(axis=0)) / 2
    reach_x, reach_y = _reach(xy, axes.bbox.width / axes.bbox.height)
    axes.set_xlim(centre[0] - reach_x, centre[0] + reach_x)
    axes.set_ylim(centre[1] - reach_y, centre[1] + reach_y)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#c8c8c8")
        spine.set_linewidth(0.7)


def _reach(xy: np.ndarray, ratio: float) -> tuple[float, float]:
    """Half extents of the view that hold all points in a box of this width / height.

    One unit is one length on both axes: distances of a map must not be stretched.
    """
    half = (xy.max(axis=0) - xy.min(axis=0)) * 0.53
    y = max(float(half[1]), float(half[0]) / ratio) or 1.0
    return y * ratio, y


def _edge(style: dict[str, Any]) -> dict[str, Any]:
    """Yellow points need a rim to be seen on white."""
    faint = style["color"] == PALETTE[-1]
    return {"linewidths": 0.35, "edgecolors": "#857c00"} if faint else {"linewidths": 0}


def _legend(figure: Figure, maps: Maps, anchor: tuple[float, float]) -> None:
    from matplotlib.lines import Line2D

    labels = next(iter(maps.settings.values()))[1]
    counts = np.bincount(labels, minlength=len(maps.classes))
    handles = [
        Line2D([], [], linestyle="", markersize=6.5, markeredgewidth=0, **style_of(i))
        for i in range(len(counts))
    ]
    names = [f"{_plain(_shorten(name))} ({n:,})" for name, n in zip(maps.classes, counts, strict=True)]
    room = anchor[1] * figure.get_figheight() * 72 - 10
    fontsize = min(8.5, room / (1.5 * max(len(names), 1)))
    figure.legend(
        handles, names, loc="upper left", bbox_to_anchor=anchor, frameon=False, fontsize=fontsize,
        handletextpad=0.3, borderpad=0, labelspacing=0.35, borderaxespad=0,
    )  # fmt: skip


def _shorten(name: str, length: int = 22) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _plain(text: str) -> str:
    """Text that matplotlib takes literally: no mathematics, no label hidden by a leading underscore."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _save(figure: Figure, out: Path | str) -> None:
    """Write a palette PNG: a third of the bytes of full colour, with no visible loss here."""
    from PIL import Image

    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
    with atomic(out) as temporary:
        image.quantize(colors=96, dither=Image.Dither.NONE).save(temporary, optimize=True)
