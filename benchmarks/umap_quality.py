"""Is the engine ``fused`` as good as umap-learn? ``python -m benchmarks.umap_quality [--results DIR]``.

Paired by seed: the difference of each quality number, its 95 % interval over the seeds, and whether the
interval lies within the margin (equivalence). On planted features of several shapes and on every feature
file under DIR/shared/features.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.features import planted
from benchmarks.side_by_side import Table, replace_section

NUMBERS = ("trustworthiness", "continuity", "neighbour_purity")
MARGIN = 0.002
#: Points, features, classes.
SHAPES = [(500, 64, 3), (1000, 768, 8), (2000, 256, 5), (5000, 512, 8)]


def quality(x: np.ndarray, y: np.ndarray, seeds: int, min_dist: list[float], n_neighbors: list[int]) -> dict:
    """Engine -> numbers (seeds, settings, 3)."""
    from discern.analysis.umap.embedding import embed_grid
    from discern.config import UmapSettings

    found: dict[str, list] = {"umap-learn": [], "fused": []}
    for seed in range(seeds):
        for engine, rows in found.items():
            settings = UmapSettings(engine=engine, seed=seed, min_dist=min_dist, n_neighbors=n_neighbors)
            rows.append([[cell[name] for name in NUMBERS] for cell in embed_grid(x, y, settings)[1]])
    return {engine: np.array(rows) for engine, rows in found.items()}


class Compared(NamedTuple):
    """One number: fused - umap-learn over the seeds, of the mean over settings and of the worst setting."""

    name: str
    gap: float
    half: float  # of the 95 % interval
    spread: float  # of umap-learn over the seeds
    worst: float  # the setting that is furthest from umap-learn
    worst_half: float

    @property
    def equivalent(self) -> bool:
        """The whole interval lies within the margin."""
        return abs(self.gap) + self.half <= MARGIN


def compared(found: dict) -> list[Compared]:
    """Per number: differences paired by seed."""
    from scipy.stats import t

    rows = []
    for place, name in enumerate(NUMBERS):
        ours, theirs = (found[engine][:, :, place] for engine in ("fused", "umap-learn"))
        each = ours - theirs
        width = t.ppf(0.975, len(each) - 1) / np.sqrt(len(each))
        gap, half = each.mean(axis=1), width * each.std(axis=0, ddof=1)
        far = np.abs(each.mean(axis=0)).argmax()
        whole = gap.mean(), width * gap.std(ddof=1), theirs.mean(axis=1).std(ddof=1)
        rows.append(Compared(name, *whole, each.mean(axis=0)[far], half[far]))
    return rows


def feature_sets(results: Path, models: list[str]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Feature files of a finished study with their labels; of all models if none is named."""
    from discern.analysis.cell import read_labelled

    sets = []
    for file in sorted((results / "shared" / "features").glob("*/*.parquet")):
        if models and file.stem not in models:
            continue
        cell = read_labelled(file, results / "shared" / "manifests" / f"{file.parent.name}.parquet")
        sets.append((f"{file.parent.name}/{file.stem}", cell.features, cell.labels))
    return sets


def table(sets: list, seeds: int, min_dist: list[float], n_neighbors: list[int]) -> Table:
    """One row per set and number."""
    rows = []
    for name, x, y in sets:
        for found in compared(quality(x, y, seeds, min_dist, n_neighbors)):
            gaps = f"{found.gap:+.4f} +- {found.half:.4f}", f"{found.worst:+.4f} +- {found.worst_half:.4f}"
            verdict = "yes" if found.equivalent else "not shown"
            row = (name, len(x), found.name, *gaps, f"{found.spread:.4f}", verdict)
            print(json.dumps(row), flush=True)
            rows.append(row)
    heads = (
        "features",
        "N",
        "number",
        "fused - umap-learn",
        "the worst setting",
        "spread over seeds",
        f"within {MARGIN}",
    )
    about = f"Mean over {len(n_neighbors) * len(min_dist)} settings, {seeds} seeds, 95 % interval."
    return Table("Quality of the fused layout", about, heads, rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--models", nargs="+", default=[], help="of the study; default: all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--min-dist", type=float, nargs="+", default=[0.0, 0.1, 0.25, 0.5, 0.8])
    parser.add_argument("--n-neighbors", type=int, nargs="+", default=[5, 15, 50])
    parser.add_argument("--largest", type=int, default=5000, help="largest planted set")
    parser.add_argument("--write", action="store_true", help="into the page of results")
    options = parser.parse_args()
    sets = [(f"planted {n} x {d}", *planted(n, d, k)) for n, d, k in SHAPES if n <= options.largest]
    sets += feature_sets(options.results, options.models)
    found = table(sets, options.seeds, options.min_dist, options.n_neighbors)
    print(found)
    if options.write:
        replace_section("umap_quality", [found])


if __name__ == "__main__":
    main()
