"""SARS-CoV-2 CT: two folders whose case differs from their files'; one number missing; odd channels."""

from __future__ import annotations

from pathlib import Path

from tests.replicas import pictures
from tests.replicas.writing import litter, scaled, write

COUNTS = {"COVID": 1252, "non-COVID": 1229}
HOLE = 457  # of the 1,230 declared images one is absent; which one is not known


def make(root: Path, scale: float = 1.0, traps: bool = True, complete: bool = False) -> dict[str, int]:
    """Images per class; ``complete``: with the image that the article counts and the release lacks."""
    numbers = {
        "COVID": list(range(1, 1253)),
        "non-COVID": [n for n in range(1, 1231) if complete or n != HOLE],
    }
    written = {}
    for name, stem in (("COVID", "Covid"), ("non-COVID", "Non-Covid")):
        chosen = numbers[name][: scaled(len(numbers[name]), scale)]
        for n in chosen:
            channels = {0: 4, 1: 1}.get(n % 10, 3) if traps else 3
            size = (7 + n % 5, 6 + n % 3)
            write(root / name / f"{stem} ({n}).png", pictures.png(f"sars{name}{n}", channels, *size))
        written[name] = len(chosen)
        if traps:
            litter(root / name)
    return written
