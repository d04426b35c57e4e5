"""What the torch encoders share: layouts, threads side by side, half precision, compilation."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from discern.encoders.base import load_encoder
from discern.errors import DiscernError
from discern.features.precision import deviation
from discern.model_card import ModelCard

SIZE = 64
CONVOLUTIONS = {
    "name": "random",
    "loader": {"route": "timm", "arch": "resnet10t", "keys": "random", "seed": 0},
    "preprocess": {"resize": "squash", "size": SIZE},
    "feature": {"name": "pooled", "d": 512},
}
TRANSFORMER = CONVOLUTIONS | {
    "loader": {"route": "timm", "arch": "vit_tiny_patch16_224", "keys": "random", "seed": 0,
               "options": {"img_size": SIZE}},
    "feature": {"name": "pooled", "d": 192},
}  # fmt: skip
BATCH = np.random.default_rng(0).standard_normal((5, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("spec", [CONVOLUTIONS, TRANSFORMER], ids=["convolutions", "transformer"])
def test_the_buffer_s_layout_changes_no_bit_and_is_not_copied(spec):
    encoder = load_encoder(spec, {}, "cpu")
    buffer = encoder.buffer(BATCH.shape)
    assert buffer.shape == BATCH.shape
    assert buffer.dtype == np.float32
    buffer[...] = BATCH
    assert np.array_equal(encoder.encode(buffer), encoder.encode(BATCH))
    assert np.array_equal(encoder.encode(buffer[:3]), encoder.encode(BATCH[:3]))
    layout = torch.channels_last if spec is CONVOLUTIONS else torch.contiguous_format
    assert torch.from_numpy(buffer).is_contiguous(memory_format=layout)


def test_arrays_that_torch_refuses_are_copied():
    encoder = load_encoder(TRANSFORMER, {}, "cpu")
    frozen = BATCH.copy()
    frozen.flags.writeable = False
    expected = encoder.encode(BATCH)
    assert np.array_equal(encoder.encode(frozen), expected)
    assert np.array_equal(encoder.encode(BATCH[::-1])[::-1], expected)
    assert np.array_equal(encoder.encode(BATCH.astype(np.float64)), expected)


def test_batches_side_by_side_are_those_of_one_thread():
    encoder = load_encoder(CONVOLUTIONS, {}, "cpu")
    batches = [BATCH + i for i in range(12)]
    expected = [encoder.encode(batch) for batch in batches]
    assert encoder.concurrent(3)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(encoder.encode, batches))
        assert set(pool.map(lambda _: torch.get_num_threads(), range(3))) == {1}
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_networks_that_may_keep_a_batch_work_alone(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "keeping.py").write_text(
        "import torch\n\ndef build():\n"
        "    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12288, 2))\n"
        "    net[1].register_forward_hook(lambda m, i, o: None)\n    return net\n"
    )
    loader = {"route": "python", "arch": "keeping:build", "keys": "random", "seed": 0}
    own = load_encoder(CONVOLUTIONS | {"loader": loader, "feature": {"name": "x", "d": 2}}, {}, "cpu")
    assert not own.concurrent(2)
    assert own.concurrent(1)


@pytest.mark.parametrize("spec", [CONVOLUTIONS, TRANSFORMER], ids=["convolutions", "transformer"])
def test_half_precision_is_near_and_its_exact_side_is_float32(spec):
    exact = load_encoder(spec, {}, "cpu").encode(BATCH)
    half = load_encoder(spec | {"precision": "bfloat16"}, {}, "cpu")
    features = half.encode(BATCH)
    assert features.dtype == np.float32
    assert np.allclose(half.exact(BATCH), exact, atol=1e-5 * np.abs(exact).max())
    found = deviation(features, exact)
    assert 1e-5 < found["max_relative"] < 0.1  # bfloat16 has 8 bits
    assert 0.99 < found["min_cosine"] < 1
    with torch.inference_mode():
        assert np.allclose(half.forward(torch.from_numpy(BATCH)).float().numpy(), features)
    assert next(half.module.parameters()).dtype == torch.float32


def test_compiled_features_are_near_and_work_alone(monkeypatch):
    # Without code generation, which takes minutes of a C++ compiler; what is traced is the same.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    encoder = load_encoder(TRANSFORMER | {"compile": True}, {}, "cpu")
    assert not encoder.concurrent(2)
    assert np.allclose(encoder.encode(BATCH), encoder.exact(BATCH), atol=1e-4)
    assert np.allclose(encoder.encode(BATCH[:2]), encoder.exact(BATCH[:2]), atol=1e-4)


def test_a_failing_compiler_names_the_card(monkeypatch):
    class Broken(Exception):
        __module__ = "torch._inductor.exc"

    def compiler(call):
        def fail(_):
            raise Broken("no C++ compiler\nlong log")

        return fail

    monkeypatch.setattr(torch, "compile", compiler)
    encoder = load_encoder(TRANSFORMER | {"compile": True}, {}, "cpu")
    with pytest.raises(DiscernError, match=r"model 'random': torch\.compile fails \(no C\+\+ compiler\)"):
        encoder.encode(BATCH)


CARD = {
    "name": "planted",
    "loader": {"route": "timm", "arch": "resnet10t"},
    "preprocess": {"resize": "squash", "size": SIZE},
    "features": [{"name": "pooled", "d": 512}],
    "variants": {"bf16": {"precision": "bfloat16"}, "fast": {"compile": True, "batch_size": "auto"}},
}


def test_arithmetic_is_part_of_what_features_depend_on_and_only_where_it_differs():
    card = ModelCard.model_validate(CARD)
    assert not {"precision", "compile"} & card.extraction_spec().keys()
    assert card.selected("bf16").extraction_spec()["precision"] == "bfloat16"
    fast = card.selected("fast").extraction_spec()
    assert fast["compile"] is True
    assert "batch_size" not in fast


@pytest.mark.parametrize("wish", [{"precision": "float16"}, {"compile": True}])
def test_routes_without_torch_refuse_what_they_cannot_do(wish):
    with pytest.raises(ValidationError, match=r"precision, compile: not with loader\.route 'onnx'"):
        ModelCard.model_validate(CARD | {"loader": {"route": "onnx"}, "variants": {}} | wish)


@pytest.mark.parametrize("wish", [{"precision": "half"}, {"batch_size": 0}, {"batch_size": "all"}])
def test_wrong_wishes_are_refused(wish):
    with pytest.raises(ValidationError):
        ModelCard.model_validate(CARD | wish)


def test_deviation_of_planted_features():
    exact = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], np.float32)
    features = exact.copy()
    assert deviation(features, exact) == {"images": 3, "max_relative": 0.0, "min_cosine": 1.0}
    features[1] = [0.02, 2.0]
    found = deviation(features, exact)
    assert found["max_relative"] == pytest.approx(0.01)
    assert found["min_cosine"] == pytest.approx(1 / np.sqrt(1 + 1e-4))
