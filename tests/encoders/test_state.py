"""Published checkpoints become state dicts completely or not at all."""

from pathlib import Path

import pytest
import torch

from discern.encoders.base import Request
from discern.encoders.state import restore
from discern.errors import DiscernError
from discern.model_card import Loader, Preprocess


def network(classes=3):
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, classes))


def blank():
    torch.manual_seed(99)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))


def request(file, **loader):
    return Request(
        "planted",
        Loader(route="timm", **loader),
        Preprocess(resize="none", size=4),
        "",
        5,
        {Path(file).name: Path(file)} if file else {},
        "cpu",
    )


def saved(tmp_path, state, name="weights.pth"):
    path = tmp_path / name
    torch.save(state, path)
    return path


def without_head(module):
    return lambda: module.__setitem__(2, torch.nn.Identity())


def same(a, b):
    return all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("distributed", ["", "module."])
def test_named_with_prefix_wrapper_and_other_parts(tmp_path, wrapper, distributed):
    truth = network().state_dict()
    published = {f"{distributed}visual.{k}": v for k, v in truth.items()}
    published |= {f"{distributed}text.weight": torch.ones(2), f"{distributed}logit_scale": torch.ones(())}
    file = saved(tmp_path, {wrapper: published, "epoch": 3} if wrapper else published)
    torch.manual_seed(99)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))
    restore(request(file, prefix="visual."), module)
    assert same(truth, module.state_dict())


def test_named_leaves_the_published_classifier_out(tmp_path):
    truth = network(classes=7).state_dict()
    module = network(classes=3)
    restore(request(saved(tmp_path, truth)), module, "2", without_head(module))
    assert isinstance(module[2], torch.nn.Identity)
    assert same(module.state_dict(), truth)


def test_a_missing_tensor_aborts_with_its_name(tmp_path):
    state = network().state_dict()
    del state["1.running_mean"]
    with pytest.raises(DiscernError, match=r"1 missing in the file \(1\.running_mean\)"):
        restore(request(saved(tmp_path, state)), network())


def test_an_unknown_tensor_aborts_with_its_name(tmp_path):
    state = network().state_dict() | {"3.adapter": torch.ones(2)}
    with pytest.raises(DiscernError, match=r"unknown to the encoder \(3\.adapter\)"):
        restore(request(saved(tmp_path, state)), network())


def test_another_shape_aborts_with_name_and_shapes(tmp_path):
    with pytest.raises(DiscernError, match=r"'2\.weight' has shape \(3, 5\).*\(7, 5\)"):
        restore(request(saved(tmp_path, network(classes=7).state_dict())), network())


def test_the_prefix_comes_off_as_far_as_the_target_demands(tmp_path):
    """Libraries have renamed their own modules: one checkpoint, bare or prefixed target."""
    truth = network().state_dict()
    file = saved(tmp_path, {f"model.tower.vision_model.{k}": v for k, v in truth.items()})
    bare = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))
    prefixed = torch.nn.Module()
    prefixed.vision_model = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)
    )
    for module, name in ((bare, ""), (prefixed, "vision_model.")):
        restore(request(file, prefix="model.tower.vision_model."), module)
        assert same({name + k: v for k, v in truth.items()}, module.state_dict())


@pytest.mark.parametrize("with_head", [True, False])
def test_by_order_with_and_without_classifier(tmp_path, with_head):
    truth = network().state_dict()
    kept = {k: v for k, v in truth.items() if with_head or not k.startswith("2.")}
    file = saved(tmp_path, {f"layer_{i}": v for i, v in enumerate(kept.values())})
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))
    restore(request(file, keys="by_order"), module, "2", without_head(module))
    assert isinstance(module[2], torch.nn.Identity)
    assert same(module.state_dict(), truth)


def test_by_order_names_the_first_pair_that_differs(tmp_path):
    state = list(network().state_dict().items())
    state[0], state[1] = state[1], state[0]
    with pytest.raises(DiscernError, match=r"'0\.weight' has shape \(5, 4\).*'0\.bias' \(5,\)"):
        restore(request(saved(tmp_path, dict(state)), keys="by_order"), network())


def test_by_order_refuses_a_shorter_checkpoint(tmp_path):
    state = dict(list(network().state_dict().items())[:-1])
    with pytest.raises(DiscernError, match="8 tensors, the encoder 9"):
        restore(request(saved(tmp_path, state), keys="by_order"), network())


def test_no_weight_file_is_named():
    with pytest.raises(DiscernError, match="no weight file among: nothing"):
        restore(request(None), network())


def test_renames_run_in_order_and_drops_take_buffers_away(tmp_path):
    truth = network().state_dict()
    published = {f"old.{k.replace('weight', 'w')}": v for k, v in truth.items()}
    published |= {"old.1.relative_position_index": torch.arange(3), "other.w": torch.ones(1)}
    module = blank()
    rename = {r"^old\.": "new.", r"^new\.(\d)\.w$": r"\1.weight", r"^new\.": ""}
    loader = {"prefix": "old.", "rename": rename, "drop": [r"relative_position_index$"]}
    restore(request(saved(tmp_path, published), **loader), module)
    assert same(truth, module.state_dict())


def test_a_rename_that_joins_two_tensors_is_refused(tmp_path):
    file = saved(tmp_path, network().state_dict())
    with pytest.raises(DiscernError, match=r"makes '0\.weight' of both '0\.weight' and '2\.weight'"):
        restore(request(file, rename={r"^2\.": "0."}), network())


@pytest.mark.parametrize("prefix", ["", "tower."])
def test_a_drop_never_takes_a_weight_away(tmp_path, prefix):
    file = saved(tmp_path, {prefix + k: v for k, v in network().state_dict().items()})
    with pytest.raises(
        DiscernError, match=rf"drop takes weights of the encoder away: {prefix}1\.running_mean"
    ):
        restore(request(file, prefix=prefix, drop=[r"running_mean"]), network())


def test_a_drop_is_judged_by_the_new_name(tmp_path):
    published = {k.replace("running_mean", "index"): v for k, v in network().state_dict().items()}
    loader = {"rename": {"index$": "running_mean"}, "drop": ["index$"]}
    with pytest.raises(DiscernError, match=r"takes weights of the encoder away: 1\.running_mean"):
        restore(request(saved(tmp_path, published), **loader), network())


def test_what_was_not_renamed_is_paired_with_what_it_looks_like(tmp_path):
    truth = network().state_dict()
    published = {k.replace("1.running_mean", "model.trunk.1.running_mean"): v for k, v in truth.items()}
    with pytest.raises(DiscernError) as caught:
        restore(request(saved(tmp_path, published)), network())
    assert "'model.trunk.1.running_mean' looks like the encoder's '1.running_mean'" in str(caught.value)


def test_quantised_weights_are_refused(tmp_path):
    state = network().state_dict()
    state["0.weight"] = state["0.weight"].to(torch.int8)
    with pytest.raises(DiscernError, match=r"tensor '0\.weight': holds torch\.int8"):
        restore(request(saved(tmp_path, state)), network())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tmp_path, dtype):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network().state_dict().items()}
    module = blank().to(dtype)
    restore(request(saved(tmp_path, state)), module)
    assert {v.dtype for v in module.parameters()} == {torch.float32}
    assert same({k: v.float() for k, v in state.items()}, module.state_dict())


def test_converted_names_pass_the_converter_bare_and_then_fit_strictly(tmp_path):
    truth = network().state_dict()
    published = {f"visual.foreign_{k}": v for k, v in truth.items()}
    seen = []

    def convert(state):
        seen.extend(state)
        return {k.removeprefix("foreign_"): v for k, v in state.items()}

    loader = {"keys": "converted", "prefix": "visual."}
    module = blank()
    restore(request(saved(tmp_path, published), **loader), module, convert=convert)
    assert seen == [f"foreign_{k}" for k in truth]
    assert same(truth, module.state_dict())
    del published["visual.foreign_1.bias"]
    with pytest.raises(DiscernError, match=r"1 missing in the file \(1\.bias\)"):
        restore(request(saved(tmp_path, published), **loader), blank(), convert=convert)


def test_a_converter_that_is_missing_or_fails_is_named(tmp_path):
    file = saved(tmp_path, network().state_dict())
    with pytest.raises(DiscernError, match="'converted', but 'timm' has no converter"):
        restore(request(file, keys="converted"), network())
    with pytest.raises(DiscernError, match=r"does not know this checkpoint \(KeyError: 'absent'\)"):
        restore(request(file, keys="converted"), network(), convert=lambda state: state["absent"])
