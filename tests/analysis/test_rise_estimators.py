"""All estimators of RISE have one expectation, and their stated errors are those that repetition shows."""

from itertools import product
from typing import get_args

import numpy as np
import pytest

from discern.analysis.rise.estimators import estimate
from discern.analysis.rise.masks import MaskBank, draw_masks
from discern.analysis.rise.moments import MaskSums, PooledMasks
from discern.analysis.rise.ridge import leave_one_out
from discern.config import RiseEstimator

ESTIMATORS = get_args(RiseEstimator)
SIZE = (24, 18)
RNG = np.random.default_rng(0)
LINEAR, BENT = RNG.normal(size=SIZE) / 20, RNG.normal(size=SIZE) / 30


def masks_of(bank):
    out = np.empty((len(bank), *bank.size), np.float32)
    bank.fill(0, out)
    return out.astype(np.float64)


def scores_of(bank):
    """Two scores of every mask: a linear function, and one with products of cells and a large mean."""
    masks = masks_of(bank)
    linear, bent = ((masks * weights).sum(axis=(1, 2)) for weights in (LINEAR, BENT))
    return np.stack([linear + 0.3, linear + 1 + 3 * (bent - BENT.sum() / 2) ** 2], axis=1)


def drawn(n, estimator, seed, p=0.5):
    return draw_masks(n, 4, p, SIZE, seed, pairs=estimator == "antithetic")


def expected_maps():
    """E[f m] / p of both scores. The square is even about the mean mask: it adds its mean alone."""
    covariances = [
        sum(w.astype(float) @ w.T.astype(float) for w in weights) / len(weights)
        for weights in drawn(4, "plain", 0).upsampled
    ]
    contrast = 0.25 * covariances[0] @ LINEAR @ covariances[1] / 0.5
    even = 0.25 * (BENT * (covariances[0] @ BENT @ covariances[1])).sum()
    mean = LINEAR.sum() / 2
    return np.stack([contrast + mean + 0.3, contrast + mean + 1 + 3 * even])


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_sums_over_masks_equal_sums_over_masks_at_full_size(p):
    bank = draw_masks(50, 4, p, SIZE, seed=1)
    weights = np.random.default_rng(2).normal(size=(50, 3))
    centred = masks_of(bank) - p
    sums = MaskSums(bank)
    np.testing.assert_allclose(sums.sum(weights), np.tensordot(weights.T, centred, 1), atol=1e-5)
    squares = np.tensordot(weights.T, centred**2, 1)
    np.testing.assert_allclose(sums.sum_of_squares(weights), squares, atol=1e-5)


def test_covariance_is_that_of_every_mask_there_is():
    """All 2^4 coins at all offsets of a grid of two: moments by counting, p far from a half."""
    size, p = (6, 4), 0.3
    one = draw_masks(1, 2, p, size, seed=0)
    coins = np.array(list(product([False, True], repeat=4))).reshape(-1, 2, 2)
    offsets = np.array(list(product(range(3), range(2))))
    bank = MaskBank(size, p, np.repeat(coins, 6, axis=0), np.tile(offsets, (16, 1)), one.weights)
    chance = np.where(bank.grids, p, 1 - p).prod(axis=(1, 2)) / 6
    pooled = PooledMasks(bank)
    coordinates, centred = pooled.coordinates(bank), masks_of(bank) - p
    assert np.abs(chance @ coordinates).max() < 1e-7
    np.testing.assert_allclose((coordinates.T * chance) @ coordinates, np.diag(pooled.variance), atol=1e-7)
    found = pooled.covariance(np.eye(coordinates.shape[1]))
    np.testing.assert_allclose(found, np.tensordot(coordinates.T * chance, centred, 1), atol=1e-7)


def test_few_coordinates_keep_nearly_all_of_a_mask():
    bank = draw_masks(200, 8, 0.5, (96, 96), seed=0)
    centred = masks_of(bank) - 0.5
    kept = (PooledMasks(bank).coordinates(bank) ** 2).sum()
    assert kept > 0.99 * (centred**2).sum()


@pytest.mark.parametrize("constant", [True, False])
def test_leaving_out_in_closed_form_equals_leaving_out(constant):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 6)), rng.normal(size=(20, 2)) + 5
    found = leave_one_out(x, y, variance=1.0, constant=constant)

    def fit(rows, penalty, column):
        a, b = x[rows], y[rows, column]
        mean_a, mean_b = (a.mean(axis=0), b.mean()) if constant else (0, 0)
        a, b = a - mean_a, b - mean_b
        slope = np.linalg.solve(a.T @ a + penalty * np.eye(6), a.T @ b)
        return slope, mean_b - mean_a @ slope if constant else 0.0

    penalties = 6 * 10.0 ** np.arange(-4, 3)
    for column in range(2):
        slopes = []
        for i in range(20):
            other = np.array([j for j in range(20) if j % 2 != i % 2])
            errors = []
            for penalty in penalties:
                left = [fit(other[other != j], penalty, column) for j in other]
                errors.append(
                    sum((y[j, column] - x[j] @ s - c) ** 2 for j, (s, c) in zip(other, left, strict=True))
                )
            slope, start = fit(np.arange(20) != i, penalties[np.argmin(errors)], column)
            slopes.append(slope)
            assert found.residual[i, column] == pytest.approx(y[i, column] - x[i] @ slope - start)
            assert found.linear[i, column] == pytest.approx(x[i] @ slope)
        np.testing.assert_allclose(found.coefficients[:, column], np.mean(slopes, axis=0), atol=1e-10)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n_masks", [16, 96])
def test_mean_of_many_maps_is_the_expectation_and_their_spread_the_stated_error(estimator, n_masks):
    """With 16 masks the regression has far more coordinates than masks: no bias all the same."""
    truth, runs = expected_maps(), 160
    pooled = PooledMasks(drawn(4, "plain", 0))
    maps, errors = [], []
    for seed in range(runs):
        bank = drawn(n_masks, estimator, seed)
        found = estimate(scores_of(bank), bank, estimator, pooled)
        maps.append(found.maps)
        errors.append(found.errors)
    spread = np.std(maps, axis=0, ddof=1)
    off = (np.mean(maps, axis=0) - truth) / (spread / np.sqrt(runs))
    # One draw, many pixels that go together: the root mean square has the spread of a few.
    assert np.sqrt((off**2).mean(axis=(1, 2))).max() < 2.2
    stated = np.sqrt((np.square(errors)).mean(axis=(0, 2, 3)) / (spread**2).mean(axis=(1, 2)))
    assert stated.min() > 0.85
    assert stated.max() < 1.18


def shape(maps):
    """Maps about their mean: all that tells pixels apart."""
    return maps - maps.mean(axis=(-2, -1), keepdims=True)


def test_less_noise_for_equal_masks():
    truth = shape(expected_maps())
    error = {}
    for estimator in ESTIMATORS:
        found = []
        for seed in range(10):
            bank = drawn(512, estimator, seed)
            found.append(estimate(scores_of(bank), bank, estimator).maps)
        error[estimator] = ((shape(np.array(found)) - truth) ** 2).mean(axis=(0, 2, 3))
    linear, bent = 0, 1
    assert error["control_variate"][linear] < error["centred"][linear] / 30
    assert error["centred"][bent] < error["plain"][bent] / 1.3
    assert error["control_variate"][bent] < error["centred"][bent] / 2
    assert error["antithetic"][bent] < error["control_variate"][bent] / 2


def test_share_of_noise_is_that_of_the_map_about_its_mean():
    """A constant score has no noise once centred; the plain map of it is nothing but noise."""
    bank = drawn(64, "plain", 0)
    constant = np.full((64, 1), 7.0)
    for estimator in ("centred", "control_variate"):
        found = estimate(constant, bank, estimator)
        np.testing.assert_allclose(found.maps, 7, atol=1e-9)
        assert found.noise[0] == 0
    assert estimate(constant, bank, "plain").noise[0] > 0.5
    truth, n = expected_maps()[0], 256
    shares = []
    for seed in range(40):
        bank = drawn(n, "centred", seed)
        found = estimate(scores_of(bank)[:, :1], bank, "centred")
        apart = found.maps[0] - scores_of(bank)[:, 0].mean() - (truth - scores_mean())
        shares.append((np.sqrt((apart**2).mean()) / found.maps[0].std(), found.noise[0]))
    actual, stated = np.sqrt((np.square(shares)).mean(axis=0))
    assert stated == pytest.approx(actual, rel=0.12)


def scores_mean():
    return LINEAR.sum() / 2 + 0.3


def test_classes_do_not_influence_each_other():
    bank = drawn(40, "antithetic", 0)
    scores = scores_of(bank)
    both = estimate(scores, bank, "antithetic")
    one = estimate(scores[:, 1:], bank, "antithetic")
    np.testing.assert_allclose(both.maps[1], one.maps[0], atol=1e-12)
    np.testing.assert_allclose(both.errors[1], one.errors[0], atol=1e-12)


def test_scores_and_masks_must_belong_together():
    bank = drawn(8, "plain", 0)
    with pytest.raises(ValueError, match="7 scores of 8 masks"):
        estimate(np.zeros((7, 1)), bank, "plain")
    with pytest.raises(ValueError, match="lacks pairs"):
        estimate(np.zeros((8, 1)), bank, "antithetic")
    with pytest.raises(ValueError, match="has pairs"):
        estimate(np.zeros((8, 1)), drawn(8, "antithetic", 0), "control_variate")
