"""The picture of a RISE cell: every explained image beside its heat, with caption and colour bar.

Drawn with Pillow alone, because it runs in each model's own environment, which has no plotting library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from discern.analysis.rise.targets import target_in_frame
from discern.contracts import MANIFEST, RISE, atomic, read_table
from discern.data.pictures.images import Pictures
from discern.encoders import preprocess
from discern.errors import problem
from discern.model_card import Preprocess
from discern.report.rise_ink import GREY, INK, PAPER, colours, font, mark, outline, shorten, write

PAPER_MASKS = 4096
WIDTH, MARGIN, GAP, PAIRS = 1000, 18, 22, 3
PAIR = (WIDTH - 2 * MARGIN - (PAIRS - 1) * GAP) // PAIRS
TILE = (PAIR - 4) // 2
HEADER, CAPTION, FOOTER = 92, 88, 8
WORDS = {
    "centred": "centred scores",
    "control_variate": "control variate",
    "antithetic": "control variate on antithetic pairs",
}
OUTLINE = (0, 229, 255)  # not among the colours of the heat


@dataclass(frozen=True)
class Panel:
    """One explained image: the encoder's view, its map (h, w), its target bool (H, W) or None."""

    view: Image.Image
    saliency: np.ndarray
    target: np.ndarray | None
    row: dict[str, Any]  # of the RISE table
    names: tuple[str, str]  # true and predicted class


def overlay(view: Image.Image, saliency: np.ndarray, target: np.ndarray | None) -> Image.Image:
    """Heat over the grey picture, cold parts more transparent; each map spans its own range."""
    heat = Image.fromarray(saliency.astype(np.float32)).resize(view.size, Image.Resampling.BICUBIC)
    low, high = float(saliency.min()), float(saliency.max())
    level = np.clip((np.asarray(heat) - low) / (high - low or 1.0), 0.0, 1.0)
    opacity = (0.4 + 0.4 * level)[..., None]
    # Dimmed, so that white bone or brain does not pass for heat.
    grey = 0.8 * np.asarray(view.convert("L"), dtype=np.float64)[..., None]
    mixed = (1 - opacity) * grey + opacity * colours(level)
    if target is not None:
        shape = Image.fromarray(target).resize(view.size, Image.Resampling.NEAREST)
        mixed[outline(np.asarray(shape, dtype=bool))] = OUTLINE
    return Image.fromarray(mixed.round().astype(np.uint8))


def _tile(view: Image.Image) -> Image.Image:
    """Fit the view into a tile; one of few pixels is enlarged without smoothing, as the encoder has it."""
    longest = max(view.size)
    kind = Image.Resampling.NEAREST if longest < TILE // 2 else Image.Resampling.LANCZOS
    width, height = (max(1, round(TILE * side / longest)) for side in view.size)
    return view.resize((width, height), kind)


def _draw_panel(sheet: Image.Image, panel: Panel, left: int, top: int) -> None:
    view = _tile(panel.view)
    # A view that is not square stands in the middle of its tile.
    across, down = left + (TILE - view.width) // 2, top + (TILE - view.height) // 2
    sheet.paste(view, (across, down))
    sheet.paste(overlay(view, panel.saliency, panel.target), (across + PAIR - TILE, down))
    draw, line, row = ImageDraw.Draw(sheet), top + TILE + 6, panel.row
    sheet.paste(mark("right" if row["correct"] else "wrong", 14), (left, line))
    true, predicted = (name.replace("_", " ") for name in panel.names)
    half = (PAIR - 50) // 2
    end = write(draw, (left + 20, line), shorten(true, font(14), half), 14, INK)
    sheet.paste(mark("arrow", 14), (int(end) + 6, line + 1))
    write(draw, (end + 26, line), shorten(predicted, font(14), half), 14, INK)
    write(draw, (left, line + 20), shorten(row["image_id"], font(12), PAIR, middle=True), 12, GREY)
    score = f"decision {row['decision']:.3g}; noise {100 * row['standard_error']:.2g} % of the map"
    score += f", {row['n_masks']} masks"
    write(draw, (left, line + 37), shorten(score, font(12), PAIR), 12, GREY)
    if row["target_share"] is not None:
        share, area = 100 * row["target_share"], 100 * row["target_area"]
        write(draw, (left, line + 53), f"{share:.0f} % of the heat in target, area {area:.0f} %", 12, GREY)


def _masks(about: dict[str, Any]) -> str:
    """How many masks and which estimator, where they are not the paper's."""
    if about["n_masks"] == "auto":
        masks = f"masks until the noise is {100 * about['standard_error']:g} %, at most {about['max_masks']}"
    else:
        masks = f"{about['n_masks']} masks"
        if about["n_masks"] < PAPER_MASKS:
            masks += f" (reduced from the paper's {PAPER_MASKS})"
    return masks if about["estimator"] == "plain" else f"{masks}, {WORDS[about['estimator']]}"


def _draw_header(sheet: Image.Image, title: str, dataset: str, about: dict[str, Any], target: bool) -> None:
    draw = ImageDraw.Draw(sheet)
    room = WIDTH - 2 * MARGIN
    write(draw, (MARGIN, 14), shorten(f"{title} on {dataset}", font(20), room), 20, INK)
    grid = about["grid"]
    how = (
        f"RISE, {_masks(about)}, grid {grid} x {grid}, p = {about['p']:g}, classifier of fold {about['fold']}"
    )
    write(draw, (MARGIN, 42), shorten(how, font(13), room), 13, GREY)
    bar = np.broadcast_to(np.linspace(0, 1, 120), (10, 120))
    sheet.paste(Image.fromarray(colours(bar).round().astype(np.uint8)), (MARGIN + 30, 67))
    write(draw, (MARGIN, 64), "low", 13, INK)
    end = write(draw, (MARGIN + 156, 64), "high", 13, INK)
    end = write(draw, (end + 8, 64), "(each map has its own range)", 13, GREY)
    if target:
        draw.line([(end + 22, 72), (end + 44, 72)], fill=(0, 168, 190), width=3)
        write(draw, (end + 50, 64), "target; heat = hottest 5 % of the pixels", 13, GREY)


def draw_sheet(panels: list[Panel], title: str, dataset: str, about: dict[str, Any]) -> Image.Image:
    """All panels on one RGB sheet, 1000 px wide; ``about`` is the metadata of the RISE table."""
    rows = -(-len(panels) // PAIRS)
    sheet = Image.new("RGB", (WIDTH, HEADER + rows * (TILE + CAPTION) + FOOTER), PAPER)
    _draw_header(sheet, title, dataset, about, any(p.target is not None for p in panels))
    for index, panel in enumerate(panels):
        down, across = divmod(index, PAIRS)
        _draw_panel(sheet, panel, MARGIN + across * (PAIR + GAP), HEADER + down * (TILE + CAPTION))
    return sheet


def draw_cell(
    rise: Path | str,
    manifest: Path | str,
    transform: Preprocess,
    figure: Path | str,
    title: str,
    dataset: str,
) -> None:
    """Draw the sheet of a RISE table as PNG.

    ``transform`` is the preprocessing of the model's card, ``title`` and ``dataset`` are for the header.
    Raises DiscernError where the manifest lacks an explained image.
    """
    table, about = read_table(RISE, rise)
    entries, source = read_table(MANIFEST, manifest)
    entry = {row["image_id"]: row for row in entries.to_pylist()}
    pictures, classes = Pictures.of(source), source["classes"]
    panels = []
    for row in table.to_pylist():
        if row["image_id"] not in entry:
            raise problem(str(manifest), f"the explained image '{row['image_id']}' is not in the manifest")
        known = entry[row["image_id"]]
        picture = pictures.open(known["path"])
        panels.append(
            Panel(
                view=preprocess.view(picture, transform),
                saliency=np.asarray(row["saliency"], np.float64).reshape(about["saliency_size"]),
                target=target_in_frame(known, pictures, picture.size, transform),
                row=row,
                names=(classes[row["true"]], classes[row["predicted"]]),
            )
        )
    with atomic(figure) as temporary:
        draw_sheet(panels, title, dataset, about).save(temporary, optimize=True)
