"""Saliency maps and their standard errors from the scores of masked images.

Every estimator has the same expectation, E[f(image * m) m(x)] / p = E[f] + Cov(f, m(x)) / p, the map of
Petsiuk et al. (2018). It is the mean over masks (or pairs of masks) of independent terms

    a_i (m_i(x) - p) + b_i,   plus a part that is known without sampling,

with f_i the score of mask i:

- ``plain``: a = f / p, b = f. The published sum. A large mean of f makes it noisy: pixels that the drawn
  masks happen to show more often are hotter for that reason alone.
- ``centred``: a = (f_i - mean of the others) / p, b = f.
- ``control_variate``: a linear function of the pooled mask is fitted to the scores; its own map is
  known exactly from the masks' covariance, so only what it leaves is estimated by sampling.
- ``antithetic``: the same on pairs of a mask and its complement, where everything in f that is an even
  function of the mask (its mean, all products of two cells) cancels instead of being noise.

The fit that mask i meets is one without mask i (leave-one-out, in closed form), and its ridge is
chosen on the other half of the masks; so a_i and b_i depend on the fit only through other masks, and
the map is free of bias for every number of masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from discern.analysis.rise.masks import MaskBank
from discern.analysis.rise.moments import MaskSums, PooledMasks
from discern.analysis.rise.ridge import leave_one_out
from discern.config import RiseEstimator


@dataclass(frozen=True)
class Estimate:
    """Maps of k classes, float64. Units are those of the score.

    maps, errors: (k, H, W), the map and its standard error at every pixel. noise: (k,), the share of
    a map's spread over its pixels that is sampling error: root mean square of the error of map minus
    mean score, which is all that tells pixels apart, over the map's standard deviation; 0 for a flat map.
    """

    maps: np.ndarray
    errors: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class _Terms:
    """``a``, ``b``: (n, k), and the part that is known without sampling, (k, H, W) or zero."""

    a: np.ndarray
    b: np.ndarray
    known: np.ndarray | float


def estimate(
    scores: np.ndarray, bank: MaskBank, estimator: RiseEstimator, pooled: PooledMasks | None = None
) -> Estimate:
    """Maps of all columns of ``scores`` (N, k), one row for each mask of ``bank``.

    ``antithetic`` wants a bank of pairs. ``pooled`` may be handed in, as it is the same for all banks of one
    grid, p and size. Raises ValueError for fewer than four masks, or two pairs.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if len(scores) != len(bank) or len(bank) < 4:
        raise ValueError(f"{len(scores)} scores of {len(bank)} masks; at least four of each are needed")
    if bank.pairs != (estimator == "antithetic"):
        raise ValueError(f"estimator {estimator}: the bank {'has' if bank.pairs else 'lacks'} pairs")
    if bank.pairs:
        bank = MaskBank(bank.size, bank.p, bank.grids[::2], bank.offsets[::2], bank.weights)
    if estimator == "plain":
        terms = _Terms(scores / bank.p, scores, 0.0)
    elif estimator == "centred":
        n = len(scores)
        terms = _Terms((scores - scores.mean(axis=0)) * n / (n - 1) / bank.p, scores, 0.0)
    else:
        terms = _regressed(scores, bank, pooled or PooledMasks(bank), estimator == "antithetic")
    return _maps(terms, bank)


def _maps(terms: _Terms, bank: MaskBank) -> Estimate:
    a, b, n = terms.a, terms.b, len(bank)
    sums = MaskSums(bank)
    contrast = sums.sum(a) / n
    squares = sums.sum_of_squares(a**2) / n
    mixed = sums.sum(a * b) / n
    mean = b.mean(axis=0)[:, None, None]
    spread = (b**2).mean(axis=0)[:, None, None]
    variance = np.maximum(squares + 2 * mixed + spread - (contrast + mean) ** 2, 0.0) / (n - 1)
    maps = terms.known + contrast + mean
    # The error of the mean score moves the whole map and no part of it against another.
    apart = np.maximum(squares - contrast**2, 0.0).mean(axis=(1, 2)) / (n - 1)
    whole = maps.std(axis=(1, 2))
    # A map that is flat but for rounding has no spread to compare with.
    flat = whole <= 1e-12 * np.abs(maps).max(axis=(1, 2))
    noise = np.divide(np.sqrt(apart), whole, out=np.zeros_like(whole), where=~flat)
    return Estimate(maps, np.sqrt(variance), noise)


def _regressed(scores: np.ndarray, bank: MaskBank, pooled: PooledMasks, pairs: bool) -> _Terms:
    """Terms of control_variate and antithetic; of pairs, ``bank`` holds the first masks alone."""
    coordinates, variance = pooled.coordinates(bank), float(pooled.variance.mean())
    if pairs:
        # The complement has minus the coordinates: they predict the odd part, without a constant.
        fit = leave_one_out(coordinates, (scores[::2] - scores[1::2]) / 2, variance, constant=False)
        mean = (scores[::2] + scores[1::2]) / 2
    else:
        fit = leave_one_out(coordinates, scores, variance, constant=True)
        mean = scores - fit.linear
    return _Terms(fit.residual / bank.p, mean, pooled.covariance(fit.coefficients) / bank.p)
