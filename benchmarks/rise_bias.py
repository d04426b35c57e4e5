"""Is any estimator of RISE biased, and are the standard errors right? Repeated maps against a truth.

``python -m benchmarks.rise_bias --truth 65536 --repeats 64`` takes longer than the default of `make bench`.
"""

import argparse
from typing import Any, NamedTuple

import numpy as np

from benchmarks.rise_cells import both_scores, images
from benchmarks.rise_errors import ESTIMATORS, MISSING, SCORES
from benchmarks.side_by_side import Table, machine

#: Model, data set, side of the input: networks on small pictures, so that tens of thousands of passes are
#: affordable. The expectation of an estimator is a matter of the masks, whatever function is explained.
CELLS = [
    ("pixels32", "ct_organs", None),
    ("mobilenetv2", "ct_organs", 64),
    ("random_lite0", "overlay_presence", 64),
]
WHICH = (0, 7, 14)
#: Masks that give the constant which is taken from the scores before ``plain`` makes the truth of the rest.
SHIFT = 64


class Effort(NamedTuple):
    """Masks of the truth, masks of one estimate, how often each estimator is repeated."""

    truth: int = 4096
    n: int = 256
    repeats: int = 8


class Check(NamedTuple):
    """One estimator on one score, over pixels.

    away: root mean square of (mean over repeats - truth) / its standard error. spread: standard deviation
    over repeats / standard error that the maps state, both root mean square. bias: largest |mean over
    repeats - truth|, both about their mean, / standard deviation of the truth.
    """

    away: float
    spread: float
    bias: float


def _drawn(size: tuple[int, int], effort: Effort) -> Any:
    """Independent masks for the truth, then pairs for the repeats."""
    from discern.analysis.rise.masks import MaskBank, draw_masks

    alone = draw_masks(effort.truth, 8, 0.5, size, seed=1)
    pairs = draw_masks(2 * effort.n * effort.repeats, 8, 0.5, size, seed=2, pairs=True)
    grids, offsets = (np.concatenate([getattr(b, f) for b in (alone, pairs)]) for f in ("grids", "offsets"))
    return MaskBank(size, 0.5, grids, offsets, alone.weights)


def _repeated(scores: np.ndarray, bank: Any, estimator: str, effort: Effort, pooled: Any) -> list[Any]:
    """Maps of independent draws: of pairs, or of the first mask of each pair."""
    from discern.analysis.rise.estimators import estimate
    from discern.analysis.rise.masks import MaskBank

    paired = estimator == "antithetic"
    step = 1 if paired else 2
    rows = np.arange(effort.truth, len(bank), step).reshape(-1, effort.n)[: effort.repeats]
    banks = (MaskBank(bank.size, bank.p, bank.grids[r], bank.offsets[r], bank.weights, paired) for r in rows)
    return [estimate(scores[r], b, estimator, pooled) for r, b in zip(rows, banks, strict=True)]


def checks(scores: np.ndarray, bank: Any, effort: Effort) -> tuple[list[float], dict[str, list[Check]]]:
    """For every column of ``scores``: noise / spread of the truth, and what each estimator's repeats show."""
    from discern.analysis.rise.estimators import estimate
    from discern.analysis.rise.masks import MaskBank
    from discern.analysis.rise.moments import PooledMasks

    shift = scores[:SHIFT].mean(axis=0)
    rest = slice(SHIFT, effort.truth)
    other = MaskBank(bank.size, bank.p, bank.grids[rest], bank.offsets[rest], bank.weights)
    truth, pooled = estimate(scores[rest] - shift, other, "plain"), PooledMasks(bank)
    noise, found = truth.noise.tolist(), {}
    for estimator in ESTIMATORS:
        repeated = _repeated(scores, bank, estimator, effort, pooled)
        maps = np.array([r.maps for r in repeated])
        stated = np.mean([r.errors**2 for r in repeated], axis=0)
        bias = maps.mean(axis=0) - (truth.maps + shift[:, None, None])
        away = bias**2 / (stated / effort.repeats + truth.errors**2)
        seen = maps.var(axis=0, ddof=1)
        found[estimator] = [
            Check(
                float(np.sqrt(away[j].mean())),
                float(np.sqrt(seen[j].mean() / stated[j].mean())),
                float(np.abs(bias[j] - bias[j].mean()).max() / truth.maps[j].std()),
            )
            for j in range(scores.shape[1])
        ]
    return noise, found


def biases(quick: bool, effort: Effort | None = None) -> Table:
    """All cells, three images each; ``quick`` takes one image of the cheapest."""
    effort = effort or (Effort(2048, 64, 8) if quick else Effort())
    rows = []
    for model, dataset, pixels in CELLS[:1] if quick else CELLS:
        which = WHICH[:1] if quick else WHICH
        for image in images(model, dataset, which, lambda size: _drawn(size, effort), pixels):
            bank = image.scorer.bank
            noise, found = checks(both_scores(image.scorer.scores(0, len(bank)), image.label), bank, effort)
            for j, score in enumerate(SCORES):
                cells = [f"{c[j].away:.2f}; {c[j].spread:.2f}; {c[j].bias:.2f}" for c in found.values()]
                rows.append((image.name, score, f"{noise[j]:.2f}", *cells))
    about = (
        f"Truth: `plain` with {effort.truth:,} independent masks, of the score less a constant (its "
        f"mean over the first {SHIFT}, which are then left out; a constant adds itself to the expected "
        f"map). Each estimator {effort.repeats} times with {effort.n} masks, never those of the truth. "
        "Three figures over all pixels. First: root mean square of (mean of the repeats - truth) / "
        "its standard error; 1 without bias, give or take some tenths, as the pixels of a map go "
        "together. Second: standard deviation over the repeats / standard error that the maps state. "
        "Third: largest |mean of the repeats - truth|, both about their mean, / spread of the map, to "
        "be seen beside the noise of the truth. Networks on pictures of 64 x 64."
    )
    heads = ("image", "score", "noise / spread of the truth", *(e.replace("_", " ") for e in ESTIMATORS))
    return Table("Bias and standard errors", about if rows else MISSING, heads, rows)


def main() -> None:
    """Print the table with more masks or repeats."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in Effort()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value)
    print(biases(False, Effort(**vars(parser.parse_args()))))
    print(machine())


if __name__ == "__main__":
    main()
