"""Extraction: end to end beside the slower of its parts, beside the peers, and one decode for two models.

Peers are installed by ``make bench`` into ``.venv-bench``; without that their table says so. Every
measurement runs in a process with the number of threads that its row names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.pictures import manifest, pictures
from benchmarks.side_by_side import Ratio, Table

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-bench" / "bin" / "python"
SIDES = Path(__file__).parent / "extraction_sides.py"
COMPARED = [
    ("thingsvision", "mobilenetv3-small"), ("thingsvision", "resnet50"), ("clip-benchmark", "ViT-B/32"),
    ("dinotool", "ViT-B/32"),
]  # fmt: skip


def tables(quick: bool) -> list[Table]:
    """The tables of this section."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        n, few = (64, 32) if quick else (192, 48)
        photographs = _set(folder / "photographs", [1000] * n)
        mixed = _set(folder / "mixed", [6000 if i in (n // 3, n // 2) else 300 for i in range(n)])
        # For networks that take long.
        fewer = _set(folder / "fewer" / "photographs", [1000] * few)
        return [_parts(photographs, mixed, fewer, quick), _shared(fewer, quick), _peers(fewer, quick)]


def _set(folder: Path, sides: list[int]) -> Path:
    manifest(folder, pictures(folder / "images", sides))
    return folder


def _environment(threads: int) -> dict[str, str]:
    path = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    return os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


def _measured(folder: Path, model: str, threads: int, rounds: int, encode: int, *more: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.extraction_parts", str(folder), model, *more]
    command += ["--rounds", str(rounds), "--encode", str(encode)]
    done = subprocess.run(
        command, env=_environment(threads), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _spread(values: list[float]) -> Ratio:
    return Ratio(median(values), min(values), max(values))


def _parts(photographs: Path, mixed: Path, fewer: Path, quick: bool) -> Table:
    """End to end beside reading alone and encoding alone."""
    rows = []
    cores = os.cpu_count() or 1
    cases = [("mobilenetv3-small", photographs, 96), ("mobilenetv3-small", mixed, 96)]
    cases += [] if quick else [("resnet50", fewer, 48), ("ViT-B/16", fewer, 24)]
    for model, folder, encode in cases:
        for threads in (1,) if quick else (1, 2):
            found = _measured(folder, model, threads, 2 if quick else 3, encode)
            scale = found["n"] / found["encoded"]
            walls, bounds, works, kinds = [], [], [], []
            for (read, r), (forward, f), (whole, w) in zip(
                found["read"], found["encode"], found["whole"], strict=True
            ):
                slower = max(read, scale * forward)
                walls.append(slower / whole)
                bounds.append(max(slower, (r + scale * f) / cores) / whole)
                works.append((r + scale * f) / w)
                kinds.append(scale * f / r)
            ratios = [_spread(values) for values in (walls, bounds, works)]
            rows.append([model, folder.name, found["n"], threads, f"{median(kinds):.2g}", *ratios])
    return Table(
        "End to end beside its parts",
        "*slower part* is the wall time of the slower of reading alone (decode, hash, resize) and encoding "
        "alone by that of the whole extraction: 1 is the goal, and can be reached only where cores are idle "
        f"for the other part. *bound* takes the CPU time of both parts by {cores} cores instead where that "
        "is more: no schedule is quicker. *parts* is the CPU time of both by that of the whole: below 1 is "
        "overhead; above 1, batches side by side waste less than threads inside operations. Other work on "
        "the machine lowers the first two, not the third. *encoding by reading* is the CPU time of one by "
        "that of the other. `mixed` has pictures of 300 px with two of 6,000 px among them.",
        ["model", "pictures", "n", "threads", "encoding by reading", "slower part", "bound", "parts"],
        rows,
    )


def _shared(photographs: Path, quick: bool) -> Table:
    """Two models that resize alike, the pictures kept in between."""
    found = _measured(photographs, "mobilenetv3-small", 1, 2 if quick else 3, 32, "--shared")
    rows = []
    for name, key in (("first model (fills)", "fill"), ("second model (finds)", "find")):
        pairs = list(zip(found["whole"], found[key], strict=True))
        rows.append(
            [name, _spread([a[0] / b[0] for a, b in pairs]), _spread([a[1] / b[1] for a, b in pairs])]
        )
    both = [
        2 * a[1] / (b[1] + c[1]) for a, b, c in zip(found["whole"], found["fill"], found["find"], strict=True)
    ]
    rows.append(["both", "", _spread(both)])
    return Table(
        "One decode for two models",
        "Extraction with `extract.picture_cache_gib: 0` by extraction with pictures kept, mobilenetv3-small, "
        "1 thread, 1,000 px. It pays among models that resize and crop alike.",
        ["", "wall", "CPU"],
        rows,
    )


def _peers(folder: Path, quick: bool) -> Table:
    """Every peer and ours in turn."""
    rows = []
    for peer, model in COMPARED[: 1 if quick else None]:
        for threads in (1,) if quick else (1, 2):
            rows.append([peer, model, threads, *_duel(folder, peer, model, threads, 1 if quick else 3)])
    return Table(
        "Beside the peers",
        "The same files, parameters, resize, largest batch and number of threads, each side in a process of "
        "its own, in turn; imports and the building of networks do not count. *difference* is the largest "
        "between the two sides' features, by the largest feature.",
        ["peer", "model", "threads", "wall, peer by ours", "CPU, peer by ours", "difference"],
        rows,
    )


def _duel(folder: Path, peer: str, model: str, threads: int, rounds: int) -> list[object]:
    if not PEERS.is_file():
        return ["not installed (.venv-bench)", "", ""]
    with ExitStack() as stack:
        sides = {}
        for side, python in (("discern", sys.executable), (peer, str(PEERS))):
            process = stack.enter_context(_started(python, side, model, folder, threads))
            if process.stdout is None or process.stdout.readline() != "ready\n":
                return [f"{side} does not run here", "", ""]
            sides[side] = process
        seconds: dict[str, list[list[float]]] = {side: [] for side in sides}
        for turn in range(rounds + 1):  # the first warms up
            for side, process in sides.items():
                line = _turn(process)
                if not line:
                    return [f"{side} failed", "", ""]
                if turn:
                    seconds[side].append(json.loads(line))
    ours, theirs = (np.load(folder / f"features_{side}.npy") for side in sides)
    pairs = list(zip(seconds[peer], seconds["discern"], strict=True))
    difference = np.abs(ours - theirs).max() / np.abs(ours).max()
    return [
        _spread([a[0] / b[0] for a, b in pairs]),
        _spread([a[1] / b[1] for a, b in pairs]),
        f"{difference:.0e}",
    ]


def _started(python: str, side: str, model: str, folder: Path, threads: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, str(SIDES), side, model, str(folder)], env=_environment(threads), cwd=folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / f"{side}.log").open("w"),
    )  # fmt: skip


def _turn(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("go\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return process.stdout.readline()
