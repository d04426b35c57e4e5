"""Grids of maps beside umap-learn called per setting; the neighbour search; what a fresh process pays."""

import subprocess
import sys
import time
import warnings

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.features import planted
from benchmarks.side_by_side import Table, ratio

#: Points, features, n_neighbors of the peer (all five, or one row), rounds.
GRIDS = [(5000, 512, [5, 15, 30, 50, 100], 1), (28160, 1024, [15], 1)]
MIN_DIST = [0.0, 0.1, 0.25, 0.5, 0.8]


def tables(quick: bool) -> list[Table]:
    """Layouts, neighbours, start-up."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [grids(quick), searches(quick), start(quick)]


def grids(quick: bool) -> Table:
    """umap-learn per setting in one warm process beside both engines, quality numbers included in ours."""
    from discern.analysis.knn import nearest, unit_vectors
    from discern.analysis.umap.compiled import load_umap
    from discern.analysis.umap.embedding import embed_grid
    from discern.analysis.umap.quality import judge
    from discern.config import UmapSettings

    umap, rows = load_umap(), []
    for n, d, widths, rounds in [(600, 128, [5, 15], 1)] if quick else GRIDS:
        x, y = planted(n, d, 8)
        maps: dict = {}

        def peer(x=x, widths=widths, maps=maps) -> None:
            maps["peer"] = [
                umap.UMAP(n_neighbors=k, min_dist=m, metric="cosine", random_state=0, n_jobs=1).fit_transform(
                    x
                )
                for k in widths
                for m in MIN_DIST
            ]

        small, labels = planted(300, 32, 3)
        umap.UMAP(metric="cosine", random_state=0, n_jobs=1, force_approximation_algorithm=True).fit(small)
        for engine in ("fused", "umap-learn"):
            settings = UmapSettings(engine=engine, n_neighbors=widths, min_dist=MIN_DIST)
            embed_grid(small, labels, settings)  # compiles

            def ours(x=x, y=y, settings=settings, maps=maps) -> None:
                maps["ours"] = embed_grid(x, y, settings)[1]

            if engine == "umap-learn" and not quick:
                continue  # as slow as the peer: the layout is the cost
            found = ratio(peer, ours, rounds)
            unit = unit_vectors(x)
            near = nearest(unit, 16)[0][:, 1:]
            theirs = judge(unit, y, maps["peer"], near, 15, 2000)
            gaps = [
                np.mean([a[name] - b[name] for a, b in zip(maps["ours"], theirs, strict=True)])
                for name in ("trustworthiness", "continuity", "neighbour_purity")
            ]
            row = (n, d, f"{len(widths)} x {len(MIN_DIST)}", engine, found, *(f"{g:+.4f}" for g in gaps))
            print(*row, flush=True)
            rows.append(row)
    heads = (
        "N",
        "d",
        "grid",
        "engine",
        "CPU of umap-learn / ours",
        "trustworthiness",
        "continuity",
        "purity",
    )
    about = "umap-learn called per setting in one warm process; quality is ours less umap-learn's, mean."
    return Table("A grid of maps", about, heads, rows)


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
