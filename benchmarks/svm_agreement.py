"""The exact solver beside LinearSVC at tolerance 1e-8 and a trust-region method, on the paper's shapes.

``python -m benchmarks.svm_agreement --full`` adds t = 10,000 and gives each fit ten times as long.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from benchmarks.features import PAPER_SHAPES
from benchmarks.side_by_side import Table, machine
from benchmarks.svm_cases import LENGTHS, TS, Problems, case, linear_svc, objectives, other_rows, problems

#: CPU seconds that a fit of a peer may take.
LIMIT = 15
#: Duality gap / objective at which the trust-region method ends.
PEER_GAP = 1e-12
#: Relative distance from the least objective that counts as equal quality.
GOOD = 1e-6


class Found(NamedTuple):
    """A peer's answer: v (D,), CPU seconds."""

    v: np.ndarray
    seconds: float


def limited(work: Callable[[], np.ndarray], seconds: int) -> Found | None:
    """The answer of ``work`` in a process of its own; None if it takes more than ``seconds`` of CPU."""
    context = multiprocessing.get_context("fork")  # shares the rows
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(work, seconds, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()


def _send(work: Callable[[], np.ndarray], seconds: int, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 1))
    started = time.process_time()
    sender.send(Found(work(), time.process_time() - started))


def by_linear_svc(given: Problems, C: float) -> np.ndarray:
    """The first problem, by the faster of its two solvers."""
    n, width = given.rows.shape
    options = {"tol": 1e-8, "max_iter": 10**7, "dual": n < 2 * width}
    return linear_svc(given.rows, given.targets[0], C, **options)


def by_trust_region(given: Problems, C: float) -> np.ndarray:
    """The first problem by SciPy's trust-exact with the full second derivative."""
    rows, y = given.rows, given.targets[0]

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        slack = np.maximum(0, 1 - y * (rows @ v))
        return 0.5 * v @ v + C * slack @ slack, v - 2 * C * ((slack * y) @ rows)

    def curvature(v: np.ndarray) -> np.ndarray:
        inside = rows[y * (rows @ v) < 1]
        return np.eye(len(v)) + 2 * C * (inside.T @ inside)

    def small(intermediate_result) -> None:
        value, gradient = objective(intermediate_result.x)
        if 0.5 * gradient @ gradient <= PEER_GAP * value:
            raise StopIteration

    start = np.zeros(rows.shape[1])
    options = {"maxiter": 10**6, "gtol": 0.0, "max_trust_radius": 1e6}
    method = {"method": "trust-exact", "jac": True, "hess": curvature}
    return minimize(objective, start, **method, options=options, callback=small).x


PEERS = {"LinearSVC": by_linear_svc, "trust region": by_trust_region}


def agreement_rows(name: str, n: int, d: int, k: int, ts: list[int], limit: int) -> list[tuple[str, ...]]:
    """One shape: a row per t."""
    from discern.analysis.svm.path import solve_path

    part = case(n, d, k)
    given, other = problems(part), other_rows(part)
    target = given.targets[:1]
    path = solve_path(given.rows, target, given.costs, tolerance=1e-9, max_iter=200)
    rows = []
    for t in ts:
        step, cells = TS.index(t), []
        C, ours = given.costs[step], path.v[step]
        for peer in PEERS.values():
            found = limited(lambda peer=peer, C=C: peer(given, C), limit)
            if found is None:
                cells += [f"not within {limit} CPU s", "-"]
                continue
            least = objectives(given.rows, target, found.v[None], C)
            excess = (objectives(given.rows, target, ours, C) / least - 1)[0]
            differ = ((other @ ours[0] > 0) != (other @ found.v > 0)).sum()
            cells += [f"{excess:.0e}", f"{differ} of {len(other)}"]
        rows.append((name, f"{len(given.rows)} x {d}", t, f"{path.relative_gap[step, 0]:.0e}", *cells))
    return rows


def agreement_table(quick: bool, full: bool = False) -> Table:
    """All shapes of the paper; quick: the smallest, full: all t."""
    limit = 10 * LIMIT if full else LIMIT
    ts = list(TS[::2]) if full else [1, 100]
    names = ["breastus"] if quick else list(PAPER_SHAPES)
    rows = [
        row
        for name in names
        for d in LENGTHS.get(name, (1024,))
        for row in agreement_rows(name, PAPER_SHAPES[name][0], d, PAPER_SHAPES[name][1], ts, limit)
    ]
    about = (
        "The first one-against-rest problem of a fold of each shape. Objective: ours / the peer's - 1, below "
        "zero where ours is lower; predictions: signs that differ on the images outside the training part. "
        "LinearSVC has tol = 1e-8 (dual where N < 2 d, else primal); the trust region is SciPy's "
        f"`trust-exact`, run to a gap of {PEER_GAP:.0e}. Each fit of a peer has {limit} CPU s; where it does "
        "not end, our own gap still bounds the distance from the minimum."
    )
    heads = ["shape of", "N x d", "t", "our gap"]
    heads += [f"{peer}: {what}" for peer in PEERS for what in ("objective", "other predictions")]
    return Table("Agreement with solvers run to the end", about, heads, rows)


def equal_quality_row(n: int, d: int, k: int) -> tuple[str, ...]:
    """The first problem, all t: LinearSVC's loosest tolerance that is good enough, and its time / ours."""
    from discern.analysis.svm.path import solve_path

    given = problems(case(n, d, k, distance=1))
    target = given.targets[:1]
    started = time.process_time()
    path = solve_path(given.rows, given.targets, given.costs, tolerance=1e-9, max_iter=200)
    seconds = time.process_time() - started
    shape = f"{len(given.rows)} x {d}, {len(given.targets)}"
    for tol in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        options = {"tol": tol, "max_iter": 10**7, "dual": True}
        spent, worst = 0.0, 0.0
        for step, C in enumerate(given.costs):
            fit = lambda C=C, options=options: linear_svc(given.rows, given.targets[0], C, **options)  # noqa: E731
            found = limited(fit, LIMIT)
            if found is None:
                return shape, f"{tol:.0e}", f"not within {LIMIT} CPU s a fit", "-"
            least = objectives(given.rows, target, path.v[step, :1], C)
            worst = max(worst, (objectives(given.rows, target, found.v[None], C) / least - 1)[0])
            spent += found.seconds
        if worst <= GOOD:
            break
    return shape, f"{tol:.0e}", f"{worst:.0e}", f"{len(given.targets) * spent / seconds:.2g}"


def equal_quality_table(quick: bool) -> Table:
    """The separable shapes of the first table again."""
    shapes = [(780, 768, 3), (2870, 1024, 4), (7909, 1024, 2)]
    rows = [equal_quality_row(*shape) for shape in (shapes[:1] if quick else shapes)]
    about = (
        "The separable classes above, LinearSVC with dual = True and the loosest tol (a power of ten) whose "
        f"objectives lie at most {GOOD:.0e} above the minimum, as a share of it, at every t. One of the k "
        "problems, its time multiplied by k, one round."
    )
    heads = ("N x d, problems", "tol", "objective above the minimum", "CPU of LinearSVC / ours")
    return Table("Separable classes at equal quality", about, heads, rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all t, ten times as long for each fit")
    options = parser.parse_args()
    with threadpool_limits(1):
        print(f"{machine()}\n\n{agreement_table(quick=False, full=options.full)}")


if __name__ == "__main__":
    main()
