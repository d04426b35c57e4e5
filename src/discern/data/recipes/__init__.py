"""Recipes: small image data sets cut from the real scans that ordinary packages carry.

They let the whole benchmark run on real pictures without any data portal. Labels are made by a
program or by geometry, so the sets show that the pipeline works and say nothing medical.
A recipe is a module with ``samples(sources, options, seed)``, found by its name.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from discern.data.recipes.samples import write_samples
from discern.errors import problem

RECIPES = ("ihc", "organs", "overlay", "planes")


def build(recipe: str, sources: Path, out: Path, options: dict[str, Any], seed: int) -> int:
    """Run one recipe into the folder ``out`` (labels.csv, images/, masks/); returns the image count.

    ``sources`` holds one folder of extracted members per package. Equal arguments give equal files.
    """
    if recipe not in RECIPES:
        raise problem("source.recipe", f"found '{recipe}'", allowed=RECIPES)
    module = importlib.import_module(f"discern.data.recipes.{recipe}")
    return write_samples(module.samples(Path(sources), options, seed), Path(out))
