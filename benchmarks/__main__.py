"""Print how this package's engines compare with their peers, as ratios of CPU time.

Absolute times depend on the machine; both sides run in turn and the median ratio is printed.
"""

import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import prepare

ROUNDS = 3


def ratio(peer: Callable[[], object], ours: Callable[[], object]) -> float:
    """Median over the rounds of CPU time of the peer / CPU time of ours."""
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for side in (peer, ours):
            started = time.process_time()
            side()
            seconds.append(time.process_time() - started)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def planted(n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, d) float32 with class structure and a decaying spectrum, labels (N,)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, k, n)
    spectrum = 1 / np.sqrt(1 + np.arange(d))
    features = (rng.normal(size=(k, d))[labels] + 1.5 * rng.normal(size=(n, d))) * spectrum
    return features.astype(np.float32), labels


def svm(n: int, d: int, k: int) -> tuple[float, float]:
    """The five fits of one fold: LinearSVC with its defaults against the exact solver.

    Returns the ratio and the largest relative duality gap that LinearSVC leaves (ours: at most 1e-6).
    """
    from discern.analysis.svm_fold import Part, fit_fold
    from discern.config import SvmSettings

    x, y = planted(n, d, k)
    cut = n * 4 // 5
    parts = Part(x[:cut], y[:cut]), Part(x[cut:], y[cut:])
    names = tuple(map(str, range(k)))
    peer, ours = SvmSettings(solver="liblinear"), SvmSettings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gaps = [c.record["relative_gap"] for c in fit_fold(*parts, names, peer)]
        times = ratio(lambda: fit_fold(*parts, names, peer), lambda: fit_fold(*parts, names, ours))
    return times, max(gaps)


def umap_grid(n: int, d: int) -> float:
    """A 2 x 2 grid: umap-learn called per setting against one shared neighbour search."""
    from discern.analysis.umap import embed_grid, load_umap
    from discern.config import UmapSettings

    x, y = planted(n, d, 5)
    settings = UmapSettings(n_neighbors=[15, 50], min_dist=[0.1, 0.5])
    umap = load_umap()

    def peer() -> None:
        for k in settings.n_neighbors:
            for m in settings.min_dist:
                umap.UMAP(n_neighbors=k, min_dist=m, metric="cosine", random_state=0, n_jobs=1).fit(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer()  # compiles
        return ratio(peer, lambda: embed_grid(x, y, settings))


def main() -> None:
    """Run all and print a Markdown table."""
    logging.disable(logging.WARNING)  # the peer's missing convergence is a column of the table
    print("| stage | input | peer | CPU time of the peer / ours | gap of the peer |\n|---|---|---|---|---|")
    with threadpool_limits(1):
        for shape in ((780, 768, 3), (1836, 1024, 4), (2000, 256, 2)):
            times, gap = svm(*shape)
            print(
                f"| one SVM fold | N, d, classes = {shape} | LinearSVC defaults | {times:.1f} | {gap:.0e} |"
            )
            sys.stdout.flush()
        times = umap_grid(400, 256)
        print(f"| UMAP, 2 x 2 grid | 400 x 256 | umap-learn per setting | {times:.2f} | |")
    prepare.report()


if __name__ == "__main__":
    main()
