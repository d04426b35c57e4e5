"""Masked images are scored where the encoder computes: equal by arrays and by torch, batch by batch."""

import numpy as np
import pytest
import torch

from discern.analysis.linear import Classifier
from discern.analysis.rise.estimators import estimate
from discern.analysis.rise.masks import draw_masks
from discern.analysis.rise.sampling import saliency_maps
from discern.analysis.rise.scoring import ArrayScorer, Folded, scorer_of
from discern.analysis.rise.torch_scoring import FEWEST, MOST, TorchScorer, cached_batch, largest_activation
from discern.encoders.base import Request
from discern.encoders.torch_base import torch_encoder
from discern.errors import DiscernError
from discern.model_card import Loader, Preprocess

SIZE, D = (40, 32), 6


class Small(torch.nn.Module):
    """Three convolutions and a global average; notes the layout and size of what it is given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.GELU(), torch.nn.Conv2d(8, 8, 3), torch.nn.GELU()]
        self.body = torch.nn.Sequential(*layers, torch.nn.Conv2d(8, D, 3, stride=2))
        self.seen, self.room = [], 1000

    def forward(self, pictures):
        self.seen.append((len(pictures), pictures.is_contiguous(memory_format=torch.channels_last)))
        if len(pictures) > self.room:
            raise RuntimeError("out of memory")
        return self.body(pictures).mean(dim=(2, 3))


def encoder_of(module, forward=None, **options):
    preprocess = Preprocess(resize="squash", size=SIZE)
    request = Request("small", Loader(route="timm"), preprocess, "", D, {}, "cpu", **options)
    return torch_encoder(request, module, forward)


def classifier_of(rows=3, classes=3, estimator="squared_hinge_ovr"):
    rng = np.random.default_rng(4)
    mean, scale = rng.normal(size=D) / 10, rng.uniform(0.01, 0.1, D)
    names = tuple("abcdef"[:classes])
    return Classifier(mean, scale, rng.normal(size=(rows, D)), rng.normal(size=rows), names, estimator)


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(3, *SIZE)).astype(np.float32)


@pytest.mark.parametrize(
    "classifier",
    [classifier_of(), classifier_of(1, 2), classifier_of(6, 4, "hinge_ovo")],
    ids=["ovr", "binary", "ovo"],
)
def test_folded_functions_decide_as_the_classifier(classifier):
    features = np.random.default_rng(1).normal(size=(50, D)).astype(np.float32)
    folded = Folded.of(classifier)
    found = folded.decisions(folded.linear(features))
    np.testing.assert_allclose(found, classifier.decision(features), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "classifier", [classifier_of(), classifier_of(6, 4, "hinge_ovo")], ids=["ovr", "ovo"]
)
def test_torch_scores_equal_those_of_arrays(image, classifier):
    encoder = encoder_of(Small())
    bank = draw_masks(21, 8, 0.5, SIZE, seed=1)
    device, array = (kind(encoder, classifier, bank, 8) for kind in (TorchScorer, ArrayScorer))
    for scorer in (device, array):
        scorer.look_at(image)
    np.testing.assert_allclose(device.scores(0, 21), array.scores(0, 21), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(device.scores(5, 14), device.scores(0, 21)[5:14])
    np.testing.assert_array_equal(device.unmasked(), array.unmasked())


def test_scores_are_those_of_masked_images(image):
    encoder, classifier = encoder_of(Small()), classifier_of()
    bank = draw_masks(9, 8, 0.5, SIZE, seed=1)
    masks = np.empty((9, *SIZE), np.float32)
    bank.fill(0, masks)
    expected = classifier.decision(encoder.encode(image[None] * masks[:, None]))
    scorer = scorer_of(encoder, classifier, bank, 4)
    scorer.look_at(image)
    np.testing.assert_allclose(scorer.scores(0, 9), expected, rtol=1e-4, atol=1e-4)


def test_batches_are_as_large_as_asked_and_laid_out_for_the_network(image):
    module = Small()
    scorer = scorer_of(encoder_of(module), classifier_of(), draw_masks(20, 8, 0.5, SIZE, seed=1), 8)
    scorer.look_at(image)
    scorer.scores(0, 20)
    assert module.seen == [(8, True), (8, True), (4, True)]


def test_masked_images_of_every_layout_are_the_products(image):
    """Networks with and without convolutions: bit for bit the masks of the bank times the image."""
    bank = draw_masks(11, 8, 0.3, SIZE, seed=1)
    masks = np.empty((11, *SIZE), np.float32)
    bank.fill(0, masks)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIZE[0] * SIZE[1], D))
    for module, last in ((Small(), True), (flat, False)):
        scorer = scorer_of(encoder_of(module), classifier_of(), bank, 4)
        scorer.look_at(image)
        for start, n in ((0, 4), (4, 4), (8, 3)):
            found = scorer._masked(start, n)
            expected = masks[start : start + n, None] * image
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-7)
            assert found.is_contiguous(memory_format=torch.channels_last) == last


def test_the_batch_on_a_cpu_follows_the_largest_activation(image):
    """By sizes alone, so every run has the same; an explicit number is kept."""
    module = Small()
    bank = draw_masks(64, 8, 0.5, SIZE, seed=1)
    scorer = scorer_of(encoder_of(module), classifier_of(), bank)
    encoder = scorer.encoder
    assert largest_activation(encoder, image) == 4 * 8 * (SIZE[0] - 2) * (SIZE[1] - 2)
    assert not torch.nn.modules.module._global_forward_hooks
    scorer.look_at(image)
    assert scorer.batch_size == MOST
    sizes = [cached_batch(mib * 2**20) for mib in (0, 1, 2, 3, 5, 100)]
    assert sizes == [MOST, 16, 8, 5, FEWEST, FEWEST]
    scorer = scorer_of(encoder, classifier_of(), bank, 33)
    scorer.look_at(image)
    assert scorer.batch_size == 33


def test_networks_that_hide_their_parts_have_the_largest_batch(image):
    scripted = torch.jit.trace(Small().body, torch.zeros(1, 3, *SIZE))
    encoder = encoder_of(scripted, forward=lambda pictures: scripted(pictures).mean(dim=(2, 3)))
    scorer = scorer_of(encoder, classifier_of(), draw_masks(8, 8, 0.5, SIZE, seed=1))
    scorer.look_at(image)
    assert largest_activation(encoder, image) < largest_activation(encoder_of(Small()), image) / 4
    assert scorer.batch_size == MOST


def test_batches_shrink_when_memory_runs_out(image):
    module = Small()
    scorer = scorer_of(encoder_of(module), classifier_of(), draw_masks(20, 8, 0.5, SIZE, seed=1), 16)
    scorer.look_at(image)
    whole = scorer.scores(0, 20)
    module.room = 5
    np.testing.assert_allclose(scorer.scores(0, 20), whole, rtol=1e-4, atol=1e-4)
    assert scorer.batch_size == 4
    module.room = 0
    with pytest.raises(DiscernError, match="not even one masked image fits into memory"):
        scorer.scores(0, 20)


@pytest.mark.parametrize(("options", "precision"), [({}, "bfloat16"), ({"precision": "bfloat16"}, "card")])
def test_half_precision_states_how_far_it_is_from_float32(image, options, precision):
    """By the setting, or because the card says so: the same, and the scores lie as far off as stated."""
    exact, rounded = (
        scorer_of(encoder_of(Small(), **o), classifier_of(), draw_masks(16, 8, 0.5, SIZE, seed=1), 16, p)
        for o, p in (({}, "card"), (options, precision))
    )
    for scorer in (exact, rounded):
        scorer.look_at(image)
    off = np.abs(exact.scores(0, 16) - rounded.scores(0, 16)).max()
    found = rounded.deviation()
    assert off > 0.001
    assert found["masked"] == pytest.approx(off, rel=0.02)
    assert 0 < found["unmasked"] < 10 * off
    assert exact.deviation() == {"unmasked": pytest.approx(0, abs=1e-4), "masked": pytest.approx(0, abs=1e-4)}


def test_all_classes_come_from_one_pass(image):
    module = Small()
    encoder, classifier = encoder_of(module), classifier_of()
    bank = draw_masks(64, 8, 0.5, SIZE, seed=1, pairs=True)
    found = saliency_maps(encoder, classifier, image, bank, "antithetic", batch_size=16)
    assert found.maps.shape == found.errors.shape == (3, *SIZE)
    assert sum(n for n, _ in module.seen) == 64
    scorer = scorer_of(encoder, classifier, bank, 16)
    scorer.look_at(image)
    alone = estimate(scorer.scores(0, 64)[:, 2:], bank, "antithetic")
    np.testing.assert_array_equal(found.maps[2], alone.maps[0])
