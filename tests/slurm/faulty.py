"""The study of the faults: one small network under several names, each of which meets a fault of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from tests.slurm.study import STUDY
from tests.workflow.harness import Project

FILE = "config/faults.yaml"
#: held_N waits for a file to go; hungry takes more than its first attempt has.
HELD = ["cancelled", "overdue", "downed", "outlived", "unwatched"]
MODELS = ["steady", "hungry", *HELD]
FAULTS = STUDY | {
    "study": "faults",
    "models": MODELS,
    "datasets": ["my_table"],
    "umap": {"datasets": []},
    "rise": {"datasets": []},
}


def card(name: str) -> dict:
    """The card of a network; all have the same random weights."""
    function = name if name in ("steady", "hungry") else "held"
    return {
        "name": name,
        "weights": {"kind": "none"},
        "loader": {
            "route": "python",
            "arch": f"networks:{function}",
            "options": {} if function != "held" else {"name": name},
            "keys": "random",
            "seed": 1,
        },
        "preprocess": {"resize": "squash", "size": 64},
        "features": [{"name": "pooled", "d": 16}],
        "params": 3088,
        "gpu": name == "downed",
    }


def add(project: Project) -> Project:
    """Cards, networks and study, into a copy of the checkout that has the data set."""
    shutil.copy2(Path(__file__).with_name("networks.py"), project.path / "networks.py")
    for name in MODELS:
        (project.path / f"registry/models/{name}.yaml").write_text(yaml.safe_dump(card(name)))
    (project.path / FILE).write_text(yaml.safe_dump(FAULTS))
    (project.path / "hold").mkdir()
    return project
