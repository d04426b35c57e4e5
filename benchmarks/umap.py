"""Grids of maps beside umap-learn called per setting; the neighbour search; what a fresh process pays.

``python -m benchmarks.umap --full`` times umap-learn on every setting of both 5 x 5 grids (about half an hour
of CPU time), where the section of ``python -m benchmarks`` times one min_dist of each n_neighbors.
"""

import argparse
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.features import planted
from benchmarks.side_by_side import Ratio, Table, machine, ratio

N_NEIGHBORS = [5, 15, 30, 50, 100]
MIN_DIST = [0.0, 0.1, 0.25, 0.5, 0.8]
#: Points, features, n_neighbors, min_dist that umap-learn is timed on; ours computes all five.
GRIDS = [(5000, 512, N_NEIGHBORS, [0.25]), (28160, 1024, [15, 100], [0.25])]
FULL = [(5000, 512, N_NEIGHBORS, MIN_DIST), (28160, 1024, N_NEIGHBORS, MIN_DIST)]
QUICK = [(600, 128, [5, 15], MIN_DIST)]
NUMBERS = ("trustworthiness", "continuity", "neighbour_purity")


def tables(quick: bool) -> list[Table]:
    """Layouts, neighbours, start-up."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [*grids(QUICK if quick else GRIDS), searches(quick), start(quick)]


def peer_maps(x: np.ndarray, widths: list[int], min_dist: list[float], seconds: list[float]) -> list:
    """umap-learn's maps by n_neighbors, then min_dist; appends the CPU time of each."""
    from discern.analysis.umap.compiled import load_umap

    umap, maps = load_umap(), []
    for k in widths:
        for m in min_dist:
            began = time.process_time()
            options: dict[str, Any] = {"n_neighbors": k, "min_dist": m, "metric": "cosine"}
            maps.append(umap.UMAP(**options, random_state=0, n_jobs=1).fit_transform(x))
            seconds.append(time.process_time() - began)
            print(f"umap-learn {len(x)} {k} {m}: {seconds[-1]:.1f} s of CPU", file=sys.stderr, flush=True)
    return maps


def grids(cases: list[tuple[int, int, list[int], list[float]]]) -> list[Table]:
    """umap-learn in one warm process beside ``fused``, whose time includes the quality numbers."""
    from discern.analysis.umap.compiled import load_umap
    from discern.analysis.umap.embedding import embed_grid
    from discern.config import UmapSettings

    small, labels = planted(300, 32, 3)
    # Of the least size at which umap-learn searches as it does for the sets below: all of it is compiled.
    load_umap().UMAP(metric="cosine", random_state=0, n_jobs=1, n_epochs=2).fit(planted(4200, 32, 3)[0])
    rows, spread = [], []
    for n, d, widths, timed in cases:
        settings = UmapSettings(engine="fused", n_neighbors=widths, min_dist=MIN_DIST)
        embed_grid(small, labels, settings)  # compiles
        x, y = planted(n, d, 8)
        made: dict = {}
        seconds: list[float] = []

        def peer(x=x, widths=widths, timed=timed, made=made, seconds=seconds) -> None:
            made["peer"] = peer_maps(x, widths, timed, seconds)

        def ours(x=x, y=y, settings=settings, made=made) -> None:
            made["ours"] = embed_grid(x, y, settings)[1]

        whole = ratio(peer, ours, 1)
        found = Ratio(*(value * len(MIN_DIST) / len(timed) for value in whole)).median
        counts = f"{len(widths)} x {len(MIN_DIST)}", f"{len(widths)} x {len(timed)}"
        rows.append((n, d, *counts, f"{found:.2g}", *gaps(x, y, made, timed)))
        print(*rows[-1], flush=True)
        if len(timed) > 1:
            each = np.reshape(seconds, (len(widths), len(timed)))
            apart = (each.max(axis=1) / each.min(axis=1)).max()
            between = np.ptp(np.log(each.mean(axis=1)))
            spread.append((n, d, f"{apart:.2f}", f"{np.exp(between):.2f}"))
    heads = ("N", "d", "grid", "timed of umap-learn", "CPU of umap-learn / ours", *NUMBERS)
    about = (
        "All maps and quality numbers of a grid (n_neighbors x min_dist) by `fused` beside umap-learn called "
        "per setting in one warm process. Where umap-learn was timed on one min_dist (0.25) of each "
        "n_neighbors, its time counts five times. The numbers are ours less umap-learn's, mean over the "
        "settings that it was timed on."
    )
    found_tables = [Table("A grid of maps", about, heads, rows)]
    if spread:
        heads_spread = ("N", "d", "by min_dist, at one n_neighbors", "by n_neighbors")
        about = "CPU time of the slowest setting of umap-learn over that of the fastest."
        found_tables.append(Table("What umap-learn's time depends on", about, heads_spread, spread))
    return found_tables


def gaps(x: np.ndarray, y: np.ndarray, made: dict, timed: list[float]) -> list[str]:
    """Mean difference of each quality number over the settings that both made."""
    from discern.analysis.knn import nearest, unit_vectors
    from discern.analysis.umap.quality import judge

    unit = unit_vectors(x)
    theirs = judge(unit, y, made["peer"], nearest(unit, 16)[0][:, 1:], 15, 2000)
    same = [cell for cell in made["ours"] if cell["min_dist"] in timed]
    pairs = list(zip(same, theirs, strict=True))
    return [f"{np.mean([a[name] - b[name] for a, b in pairs]):+.4f}" for name in NUMBERS]


def searches(quick: bool) -> Table:
    """Exact neighbours beside pynndescent and scikit-learn's brute force."""
    from sklearn.neighbors import NearestNeighbors

    from discern.analysis.knn import nearest, nearest_approximately, unit_vectors

    rows = []
    for n, d, k in [(600, 128, 15)] if quick else [(5000, 512, 100), (28160, 1024, 100)]:
        x, _ = planted(n, d, 8)
        small = planted(300, 32, 3)[0]
        nearest_approximately(small, 15, 0)
        nearest(unit_vectors(small), 15)
        found: dict = {}

        def ours(x=x, k=k, found=found) -> None:
            found["exact"] = nearest(unit_vectors(x), k)[0]

        def descent(x=x, k=k, found=found) -> None:
            found["descent"] = nearest_approximately(x, k, 0)[0]

        def brute(x=x, k=k) -> None:
            NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(x).kneighbors(x)

        by = ratio(descent, ours, 1), ratio(brute, ours, 1)
        pairs = zip(found["exact"], found["descent"], strict=True)
        recall = np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs])
        rows.append((n, d, k, *by, f"{recall:.3f}"))
    heads = ("N", "d", "k", "pynndescent / ours", "scikit-learn brute / ours", "recall of pynndescent")
    return Table("Exact cosine neighbours", "CPU time in one warm process.", heads, rows)


def start(quick: bool) -> Table:
    """A process that imports umap-learn and fits once without kept machine code, beside ours with it."""
    code = (
        "from benchmarks.features import planted; x, y = planted(300, 32, 3)\n"
        "from discern.analysis.umap.embedding import embed_grid; from discern.config import UmapSettings\n"
        "embed_grid(x, y, UmapSettings(n_neighbors=[15], min_dist=[0.1], engine='fused'))"
    )
    peer = (
        "from benchmarks.features import planted; x, y = planted(300, 32, 3)\nimport umap\n"
        "umap.UMAP(metric='cosine', random_state=0, n_jobs=1).fit(x)"
    )
    seconds = []
    run(code)  # keeps its machine code
    for text in (peer, code):
        started = time.perf_counter()
        run(text)
        seconds.append(time.perf_counter() - started)
    rows = [(f"{seconds[0] / seconds[1]:.2g}",)]
    return Table("A fresh process, 300 points", "Wall time, one map each.", ["umap-learn / ours"], rows)


def run(code: str) -> None:
    """Run Python text in a fresh process."""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def main() -> None:
    """Print the grids' tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="time umap-learn on every setting")
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = grids(FULL if parser.parse_args().full else GRIDS)
    print(*found, machine(), sep="\n")


if __name__ == "__main__":
    main()
