"""Maps equal the published procedure on masks made elsewhere, of other sizes, p and classes."""

import numpy as np
import pytest
import torch

from discern.analysis.linear import Classifier
from discern.analysis.rise.estimators import estimate
from discern.analysis.rise.masks import MaskBank
from discern.analysis.rise.sampling import Sampler, saliency_maps
from discern.analysis.rise.scoring import scorer_of
from discern.config import RiseSettings
from discern.encoders.base import Request
from discern.encoders.torch_base import torch_encoder
from discern.model_card import Loader, Preprocess

D = 5


def network(size):
    torch.manual_seed(1)
    layers = [torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(2)]
    module = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(32, D))
    preprocess = Preprocess(resize="squash", size=size)
    return torch_encoder(Request("small", Loader(route="timm"), preprocess, "", D, {}, "cpu"), module)


def classifier_of(classes, estimator):
    rng = np.random.default_rng(4)
    rows = classes * (classes - 1) // 2 if estimator == "hinge_ovo" else 1 if classes == 2 else classes
    mean, scale = rng.normal(size=D) / 10, rng.uniform(0.05, 0.1, D)
    names = tuple("abcdef"[:classes])
    return Classifier(mean, scale, rng.normal(size=(rows, D)), rng.normal(size=rows), names, estimator)


def authors_masks(n, grid, p, size, rng):
    """Coins, offsets and masks (n, H, W) as the authors' procedure makes them, and in its order."""
    resize = pytest.importorskip("skimage.transform").resize
    cells = np.ceil(np.array(size) / grid).astype(int)
    coins = rng.random((n, grid, grid)) < p
    offsets = np.stack([rng.integers(0, cell, n) for cell in cells], axis=1)
    masks = np.empty((n, *size), np.float64)
    for mask, coin, (y, x) in zip(masks, coins, offsets, strict=True):
        large = resize(
            coin.astype(np.float32), (grid + 1) * cells, order=1, mode="reflect", anti_aliasing=False
        )
        mask[:] = large[y : y + size[0], x : x + size[1]]
    return coins, offsets, masks


@pytest.mark.parametrize(
    ("size", "grid", "p", "n", "classes", "estimator"),
    [
        ((32, 32), 8, 0.1, 40, 3, "squared_hinge_ovr"),
        ((48, 100), 7, 0.9, 33, 2, "squared_hinge_ovr"),
        ((384, 384), 8, 0.5, 6, 2, "hinge_ovo"),
        ((96, 64), 5, 0.3, 20, 4, "hinge_ovo"),
    ],
)
def test_maps_of_masks_made_elsewhere(size, grid, p, n, classes, estimator):
    rng = np.random.default_rng(7)
    coins, offsets, masks = authors_masks(n, grid, p, size, rng)
    encoder, classifier = network(size), classifier_of(classes, estimator)
    image = rng.normal(size=(3, *size)).astype(np.float32)
    features = encoder.encode((masks[:, None] * image).astype(np.float32))
    scores = classifier.decision(features)
    expected = np.tensordot(scores.T, masks, 1) / n / p
    found = saliency_maps(encoder, classifier, image, MaskBank.of(coins, offsets, p, size))
    assert found.maps.shape == (classes, *size)
    assert np.abs(found.maps - expected).max() < 1e-5 * np.abs(expected).max()
    terms = masks * scores.T[:, :, None, None] / p
    np.testing.assert_allclose(found.errors, terms.std(axis=1, ddof=1) / np.sqrt(n), rtol=1e-3, atol=1e-6)


def test_the_fewest_masks_there_may_be_have_finite_errors():
    size = (32, 32)
    settings = [
        RiseSettings(n_masks=4, estimator=e) for e in ("plain", "centred", "control_variate", "antithetic")
    ]
    scorer = None
    for chosen in settings:
        sampler = Sampler(chosen, size)
        scorer = scorer_of(network(size), classifier_of(3, "squared_hinge_ovr"), sampler.bank)
        scorer.look_at(np.random.default_rng(0).normal(size=(3, *size)).astype(np.float32))
        found, n = sampler.estimate(scorer, 1)
        assert n == 4
        assert np.isfinite(found.maps).all()
        assert np.isfinite(found.errors).all()
        assert (found.errors >= 0).all()
        assert found.noise[0] > 0


def test_auto_stops_at_the_first_look_that_is_good_enough():
    """Maps are those of the same number of masks asked for outright, and half as many were too few."""
    size, level = (32, 32), 0.3
    settings = RiseSettings(n_masks="auto", max_masks=3000, estimator="centred", standard_error=level)
    sampler = Sampler(settings, size)
    scorer = scorer_of(network(size), classifier_of(3, "squared_hinge_ovr"), sampler.bank)
    scorer.look_at(np.random.default_rng(2).normal(size=(3, *size)).astype(np.float32))
    found, n = sampler.estimate(scorer, 0)
    looks = [256, 512, 1024, 2048]
    scores = scorer.scores(0, 2048)[:, :1]
    noise = [float(estimate(scores[:k], sampler.bank.first(k), "centred").noise[0]) for k in looks]
    assert n == next(k for k, share in zip(looks, noise, strict=True) if share <= level)
    assert n > 256
    np.testing.assert_allclose(
        found.maps, estimate(scores[:n], sampler.bank.first(n), "centred").maps, rtol=1e-5, atol=1e-6
    )


def test_coins_and_offsets_that_make_no_masks_are_refused():
    coins = np.ones((3, 4, 4), bool)
    with pytest.raises(ValueError, match="must be below"):
        MaskBank.of(coins, np.array([[0, 0], [1, 2], [8, 0]]), 0.5, (32, 32))
    with pytest.raises(ValueError, match="with 2 offsets"):
        MaskBank.of(coins, np.zeros((2, 2), int), 0.5, (32, 32))
