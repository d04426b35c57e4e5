"""How many masks: a fixed number, or as many as the wanted standard error takes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from discern.analysis.linear import Classifier
from discern.analysis.rise.estimators import Estimate, estimate
from discern.analysis.rise.masks import MaskBank, draw_masks
from discern.analysis.rise.moments import PooledMasks
from discern.analysis.rise.scoring import Scorer, scorer_of
from discern.config import RiseEstimator, RisePrecision, RiseSettings
from discern.encoders.base import Encoder

#: Masks after which the standard error is first looked at, where their number is ``auto``.
FIRST_LOOK = 256


class Sampler:
    """Masks of a cell and what is known of them, shared by all its images."""

    def __init__(self, settings: RiseSettings, size: tuple[int, int]):
        self._settings = settings
        self._most = settings.max_masks if settings.n_masks == "auto" else settings.n_masks
        pairs = settings.estimator == "antithetic"
        self.bank = draw_masks(self._most, settings.grid, settings.p, size, settings.seed, pairs)
        self._pooled = PooledMasks(self.bank)

    def estimate(self, scorer: Scorer, label: int) -> tuple[Estimate, int]:
        """Map of the scorer's image for class ``label`` (k = 1), and the number of masks it took.

        ``n_masks: auto`` looks at the standard error after 256 masks and after every doubling.
        """
        scores = np.empty((0, 1))
        while True:
            done = self._next(len(scores))
            more = scorer.scores(len(scores), done)[:, [label]]
            scores = np.concatenate([scores, more])
            found = estimate(scores, self.bank.first(done), self._settings.estimator, self._pooled)
            if done == self._most or found.noise[0] <= self._settings.standard_error:
                return found, done

    def _next(self, done: int) -> int:
        if self._settings.n_masks != "auto":
            return self._most
        return min(self._most, max(FIRST_LOOK, 2 * done))


def saliency_maps(
    encoder: Encoder,
    classifier: Classifier,
    image: np.ndarray,
    bank: MaskBank,
    estimator: RiseEstimator = "plain",
    batch_size: int | Literal["auto"] = "auto",
    precision: RisePrecision = "card",
) -> Estimate:
    """Maps of one image for all classes, from one pass over the masks of ``bank``.

    ``image`` is the preprocessed input, float32 (C, H, W) with H, W = ``bank.size``; ``antithetic`` takes a
    bank of pairs. Units are those of the decision value. Memory: one batch of masked images, and
    the scores, whatever the number of masks.
    """
    scorer = scorer_of(encoder, classifier, bank, batch_size, precision)
    scorer.look_at(image)
    return estimate(scorer.scores(0, len(bank)), bank, estimator)
