"""Errors of RISE's estimators at equal passes, from cells of the demonstration."""

from typing import Any

import numpy as np

from benchmarks.rise_cells import both_scores, images
from benchmarks.side_by_side import Table

#: Model, data set, which hold-out images of its first fold.
CELLS = [("mobilenetv2", "ct_organs", (0, 7)), ("efficientnet_lite0", "overlay_presence", (0,))]
N = 512  # masks of every estimator
ESTIMATORS = ("plain", "centred", "control_variate", "antithetic")
SCORES = ("decision value", "softmax")
MISSING = "Needs the cells of `make demo`, which are not here."


def _drawn(size: tuple[int, int], n: int) -> Any:
    from discern.analysis.rise.masks import draw_masks

    return draw_masks(2 * n, 8, 0.5, size, seed=1, pairs=True)


def _compared(scores: np.ndarray, bank: Any, n: int) -> list[str]:
    """Noise of plain, saving of the others, and by how much plain and antithetic differ."""
    from discern.analysis.rise.estimators import estimate
    from discern.analysis.rise.masks import MaskBank

    # One of each pair: as many independent masks. The other pairs are for antithetic alone.
    single = MaskBank(bank.size, bank.p, bank.grids[::2], bank.offsets[::2], bank.weights)
    found = {e: estimate(scores[::2], single, e) for e in ESTIMATORS[:-1]}
    found["antithetic"] = estimate(scores[:n], bank.first(n), "antithetic")
    errors = {e: f.noise[0] * f.maps[0].std() for e, f in found.items()}
    best = found["antithetic"].maps[0].std()
    rest = MaskBank(bank.size, bank.p, single.grids[n // 2 :], single.offsets[n // 2 :], bank.weights)
    apart = estimate(scores[n::2], rest, "plain")
    joint = np.hypot(apart.noise[0] * apart.maps[0].std(), errors["antithetic"])
    difference = apart.maps[0] - found["antithetic"].maps[0]
    away = (difference - difference.mean()).std() / joint
    factors = [f"{(errors['plain'] / errors[e]) ** 2:.1f}" for e in ESTIMATORS[1:]]
    return [f"{errors['plain'] / best:.2f}", *factors, f"{away:.2f}"]


def savings(quick: bool) -> Table:
    """Masks that each estimator needs for the error of ``plain``; ``quick`` takes few of one image."""
    n, rows = 128 if quick else N, []
    for model, dataset, which in CELLS[:1] if quick else CELLS:
        for image in images(model, dataset, which[:1] if quick else which, lambda size: _drawn(size, n)):
            scores = both_scores(image.scorer.scores(0, 2 * n), image.label)
            for column, score in enumerate(SCORES):
                values = scores[:, column : column + 1]
                rows.append((image.name, score, *_compared(values, image.scorer.bank, n)))
    about = (
        f"Saving: how many times fewer masks reach the error that `plain` has with {n}, by the sampling "
        "variance of the map about its mean, pixel by pixel. Last column: root mean square difference "
        "between plain and antithetic maps of different masks, by their joint standard error; 1 is what "
        "equal expectations give."
    )
    heads = (
        "image", "score", "noise / spread of the map, plain", "saving, centred", "saving, control variate",
        "saving, antithetic", "difference / standard error",
    )  # fmt: skip
    return Table("Masks for equal error", about if rows else MISSING, heads, rows)
