"""The table of docs/models.md from the figures of a parity run: ``python -m tests.parity.table FOLDER``.

``make parity`` runs all parity tests, the full-size ones too, and then this.
"""

import json
import sys
from pathlib import Path
from typing import Any

from discern.files import write_text
from discern.model_card import ModelCard
from discern.registry import Registry

PAGE = Path("docs/models.md")
BEGIN, END = "<!-- generated: parity -->\n", "<!-- end -->"
HEAD = [
    "model", "route", "environment", "d", "parameters", "parity", "size", "features", "pixels", "text tower",
    "against",
]  # fmt: skip
#: Groups whose cards are the published models; the others are demonstration encoders and controls.
GROUPS = {"medical_vlm", "modality_specific", "volumetric", "non_medical_vlm", "non_vlm"}


def cards() -> list[ModelCard]:
    """The models of the table: every card of the published groups that is no packaged demonstration."""
    every = Registry(["registry"]).models.all()
    return [c for c in every if c.group in GROUPS and c.weights.kind not in ("package", "none")]


def figures(folder: Path) -> dict[str, dict[str, Any]]:
    """Per model the record of the largest architecture that was compared, and that of the text tower."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        transforms = [x for x in lines if x.get("kind") == "transform"]
        images = [x for x in lines if "text" not in x and x not in transforms]
        images = sorted(images, key=lambda x: (x["full"], x["figure"] or 0))
        texts = [x["text"] for x in lines if "text" in x]
        best = images[-1] if images else {}
        pixels = [x["pixels"] for x in [*images, *transforms] if x.get("pixels") is not None]
        # Figures of several tests of one size: the largest counts.
        same = [x["figure"] for x in images if x["full"] == best["full"] and x["figure"] is not None]
        found[file.stem] = best | {
            "figure": max(same, default=None),
            "pixels": max(pixels, default=None),
            "text": max(texts, default=None),
        }
    return found


def row(card: ModelCard, seen: dict[str, Any]) -> list[str]:
    """One line of the table; a dash where nothing was compared."""
    text = "none" if card.text is None else _number(seen.get("text")) if seen else "-"
    return [
        f"`{card.name}`",
        card.loader.route,
        card.environment,
        str(card.feature.d),
        f"{card.params:,}" if card.params else "-",
        card.parity.kind,
        {True: "full", False: "reduced"}.get(seen.get("full"), "-"),  # type: ignore[arg-type]
        _number(seen.get("figure")),
        _number(seen.get("pixels")),
        text,
        str(seen.get("against") or card.parity.against),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.0e}"


def table(folder: Path) -> str:
    """The whole table as Markdown."""
    seen = figures(folder)
    variants = sorted(name for name, line in seen.items() if "@" in name and "full" in line)
    registry = Registry(["registry"]).models
    every = [*cards(), *(registry[name] for name in variants)]
    rows = [HEAD, ["---"] * len(HEAD), *(row(card, seen.get(card.name, {})) for card in every)]
    return "".join("| " + " | ".join(r) + " |\n" for r in rows)


def main(folder: str) -> None:
    """Bring the page up to date."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN, 1)
    write_text(PAGE, before + BEGIN + table(Path(folder)) + END + rest.split(END, 1)[1])


if __name__ == "__main__":
    main(sys.argv[1])
