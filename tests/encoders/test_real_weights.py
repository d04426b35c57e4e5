"""The shipped encoders on a photograph of a cat: loaded by order, yet the right tensors."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from skimage.data import chelsea, coffee

from discern.encoders.base import load_encoder
from discern.encoders.preprocess import apply
from discern.encoders.state import read_state
from discern.encoders.weights import fetch_weights, read_weights
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = Registry([ROOT / "registry"])
CAT, ESPRESSO = 285, 967  # ImageNet-1k


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Fetch a model's weights; archives stay in the project's own cache."""

    def fetch(name):
        record = tmp_path_factory.mktemp(name) / "fetched.json"
        fetch_weights(REGISTRY.models[name], ROOT / "resources" / "downloads", record)
        return read_weights(record)

    return fetch


def features(name, weights, device="cpu"):
    card = REGISTRY.models[name]
    encoder = load_encoder(card.extraction_spec(), weights(name), device)
    return encoder.encode(np.stack([apply(Image.fromarray(p()), card.preprocess) for p in (chelsea, coffee)]))


def test_lite0_recognises_a_cat(weights):
    card = REGISTRY.models["efficientnet_lite0"]
    state = read_state(weights(card.name).values(), [""])
    module = timm.create_model(card.loader.arch, pretrained=False).eval()
    module.load_state_dict(dict(zip(module.state_dict(), state.values(), strict=True)))
    batch = np.stack([apply(Image.fromarray(p()), card.preprocess) for p in (chelsea, coffee)])
    with torch.inference_mode():
        logits = module(torch.from_numpy(batch))
    assert logits.argmax(1).tolist() == [CAT, ESPRESSO]
    # The route's feature, put through the classifier, gives the same logits.
    with torch.inference_mode():
        again = module.classifier(torch.from_numpy(features(card.name, weights)))
    assert torch.allclose(again, logits, atol=1e-4)


@pytest.mark.parametrize("name", ["mobilenetv2", "opennsfw_resnet50"])
def test_features_tell_pictures_apart_and_mirrors_together(weights, name):
    """Trained features barely notice a mirror; random or mis-ordered weights do not know that."""
    card = REGISTRY.models[name]
    encoder = load_encoder(card.extraction_spec(), weights(name))
    pictures = [chelsea(), chelsea()[:, ::-1], coffee()]
    batch = np.stack([apply(Image.fromarray(p), card.preprocess) for p in pictures])
    f = encoder.encode(batch)
    f = f / np.linalg.norm(f, axis=1, keepdims=True)
    assert f[0] @ f[1] > 0.8
    assert f[0] @ f[2] < 0.6


def test_random_control_needs_no_file(weights):
    assert features("random_lite0", weights).shape == (2, 1280)


def test_pixels_are_grey_levels(weights):
    f = features("pixels32", weights)
    assert f.shape == (2, 1024)
    assert 0 <= f.min() < f.max() <= 1
