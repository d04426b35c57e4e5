"""The fits of a fold: LinearSVC with its defaults beside the exact solver."""

import logging
import warnings

from threadpoolctl import threadpool_limits

from benchmarks.features import planted
from benchmarks.side_by_side import Ratio, Table, ratio

SHAPES = [(780, 768, 3), (1836, 1024, 4), (2000, 256, 2)]


def one_fold(n: int, d: int, k: int) -> tuple[Ratio, float]:
    """The ratio, and the largest relative gap that LinearSVC leaves (ours: at most 1e-6)."""
    from discern.analysis.svm.fold import Part, fit_fold
    from discern.config import SvmSettings

    x, y = planted(n, d, k)
    cut = n * 4 // 5
    parts = Part(x[:cut], y[:cut]), Part(x[cut:], y[cut:])
    names = tuple(map(str, range(k)))
    peer, ours = SvmSettings(solver="liblinear"), SvmSettings()
    gaps = [c.record["relative_gap"] for c in fit_fold(*parts, names, peer)]
    times = ratio(lambda: fit_fold(*parts, names, peer), lambda: fit_fold(*parts, names, ours))
    return times, max(gaps)


def tables(quick: bool) -> list[Table]:
    """One row per shape."""
    logging.disable(logging.WARNING)  # the peer's missing convergence is a column of the table
    rows = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for shape in SHAPES[:1] if quick else SHAPES:
            times, gap = one_fold(*shape)
            rows.append((*shape, times, f"{gap:.0e}"))
    heads = ("N", "d", "classes", "CPU of LinearSVC / ours", "largest relative gap of LinearSVC")
    return [Table("The five fits of a fold", "scikit-learn's LinearSVC with its defaults.", heads, rows)]
