"""Linear SVMs: LinearSVC beside the exact solver, agreement, the largest cells, cost curves, scores."""

import logging
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.features import PAPER_SHAPES
from benchmarks.side_by_side import Table, ratio
from benchmarks.svm_agreement import agreement_table, equal_quality_table
from benchmarks.svm_cases import (
    LENGTHS,
    SHARE,
    Case,
    Problems,
    case,
    demo_cases,
    linear_svc,
    planted,
    problems,
)
from benchmarks.svm_scores import score_tables


def exact(given: Problems, tolerance: float = 1e-9):
    """All problems, all t."""
    from discern.analysis.svm.path import solve_path

    return solve_path(given.rows, given.targets, given.costs, tolerance=tolerance, max_iter=200)


def fold_row(name: str, part: Case) -> tuple[str, ...]:
    """LinearSVC with its defaults on one of k problems, its time multiplied by k, against ours on all."""
    from discern.analysis.svm.squared_hinge import relative_gap

    given, found = problems(part), {}
    n, d, k = len(given.rows), part.features.shape[1], len(given.targets)
    costs = given.costs[2:] if n > 1000 and d < n < 2 * d else given.costs

    def peer() -> None:
        found["peer"] = [linear_svc(given.rows, given.targets[0], c) for c in costs]

    def ours() -> None:
        found["ours"] = exact(given)

    times = [k * x for x in ratio(peer, ours, 3 if n < 1000 else 1)]
    spread = f" ({times[1]:.2g} to {times[2]:.2g})" if n < 1000 else ""
    bound = "> " if len(costs) < len(given.costs) else ""
    theirs = zip(found["peer"], costs, strict=True)
    left = max(relative_gap(given.rows, given.targets[:1], v[None], c)[0] for v, c in theirs)
    gap = found["ours"].relative_gap.max()
    return name, f"{n} x {d}, {k}", f"{bound}{times[0]:.2g}{spread}", f"{gap:.0e}", f"{left:.0e}"


def fold_table(quick: bool) -> Table:
    """One fold of every shape."""
    rows = []
    for name, (n, k) in list(PAPER_SHAPES.items())[3:4] if quick else PAPER_SHAPES.items():
        rows += [fold_row(name, case(n, d, k)) for d in LENGTHS.get(name, (1024,))]
    for n, d, k in [(780, 768, 3)] if quick else [(780, 768, 3), (2870, 1024, 4), (7909, 1024, 2)]:
        rows.append(fold_row("separable classes", case(n, d, k, distance=1)))
    about = (
        "The five fits (t = 1 to 10,000) of a fold, all one-against-rest problems. LinearSVC has its "
        "defaults and runs one of the k problems, which are independent there: its time is multiplied by k. "
        "One round, three where N < 1,000. Where d < N < 2 d its fits at t = 1 and 10 can take minutes and "
        "are left out, ours are not: the ratio is a lower bound. Gaps are duality gap / objective, the "
        "largest over the fits: LinearSVC's time is that of an answer with the gap of the last column, and "
        "where classes are separable it stops early, far from the minimum."
    )
    heads = (
        "shape of",
        "N x d, problems",
        "CPU of LinearSVC / ours",
        "largest gap, ours",
        "largest gap, LinearSVC",
    )
    return Table("The fits of a fold", about, heads, rows)


def largest_cell(n: int, d: int, k: int) -> tuple[float, float, float]:
    """CPU minutes, peak memory (GiB) and largest gap of a whole grid: 5 folds, scores of the hold-out."""
    from discern.analysis.cell import Labelled
    from discern.analysis.svm.fitting import fit_one
    from discern.config import SvmSettings

    x, y = planted(n, d, k)
    cell = Labelled([], x, y.astype(np.int32), tuple(map(str, range(k))), "planted", {"model": "planted"})
    place = np.where(np.arange(n) % 5 == 0, -1, np.arange(n) // 5 % 5)
    started = time.process_time()
    with threadpool_limits(1):
        rows = [fit_one(cell, place, fold, SvmSettings(), None)[0] for fold in range(5)]
    gap = max(fit["relative_gap"] for row in rows for fit in row["validation"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (time.process_time() - started) / 60, peak, gap


def largest_table() -> Table:
    """In a process of its own, for the memory."""
    rows = []
    for shape in ((25331, 768, 8), (28160, 1024, 29)):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            minutes, peak, gap = pool.submit(largest_cell, *shape).result()
        rows.append((*shape, f"{minutes:.1f}", f"{peak:.2f}", f"{gap:.0e}"))
    about = "Five folds, five t, all classes, hold-out scored; one thread, in a process of its own."
    heads = ("images", "d", "problems", "CPU minutes", "peak memory (GiB)", "largest gap")
    return Table("The largest cells", about, heads, rows)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def curve_table(quick: bool) -> Table:
    """Cost of a fold relative to the first of each series."""
    series = {
        "N (d = 256, 4 classes)": {n: (n, 256, 4) for n in (500, 1000, 2000, 4000, 8000, 16000)},
        "d (N = 3000, 4 classes)": {d: (3000, d, 4) for d in (64, 128, 256, 512, 1024, 2048)},
        "classes (N = 4000, d = 256)": {k: (4000, 256, k) for k in (2, 4, 8, 16, 32)},
    }
    rows = []
    for name, shapes in series.items():
        costs = {}
        for value, (n, d, k) in list(shapes.items())[: 2 if quick else None]:
            given = problems(case(int(n / SHARE), d, k))
            costs[value] = min(cpu(lambda given=given: exact(given)) for _ in range(2))
        first = next(iter(costs.values()))
        rows.append((name, ", ".join(f"{value}: {cost / first:.2g}" for value, cost in costs.items())))
    about = (
        "CPU time of the five fits of a fold, relative to the first of the series (the better of two runs)."
    )
    return Table("Cost curves", about, ("over", "relative cost"), rows)


def demo_table(quick: bool) -> Table:
    """Real features."""
    rows = []
    for dataset, model, part in demo_cases():
        if quick and rows:
            break
        if model in ("mobilenetv2", "pixels32"):
            rows.append(fold_row(f"{dataset}, {model}", part))
    about = "As above, on the features that `make demo` extracts: fold 0 of each data set."
    if not rows:
        about = "Left out: `results/` holds no finished demonstration (`make demo`)."
    heads = (
        "features",
        "N x d, problems",
        "CPU of LinearSVC / ours",
        "largest gap, ours",
        "largest gap, LinearSVC",
    )
    return Table("Real features", about, heads, rows)


def tables(quick: bool) -> list[Table]:
    """All parts; quick leaves out the largest cells."""
    logging.disable(logging.WARNING)  # the peers' missing convergence is a column of the tables
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [fold_table(quick), equal_quality_table(quick), demo_table(quick), agreement_table(quick)]
        found += [] if quick else [largest_table()]
        return [*found, curve_table(quick), *score_tables(quick)]
