"""Published checkpoints become state dicts completely or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from discern.encoders.base import Request
from discern.encoders.state import read_state, restore
from discern.errors import DiscernError
from discern.model_card import Loader, Preprocess


def network(classes=3):
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, classes))


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


def test_a_wrong_prefix_shows_the_names_that_are_there(tmp_path):
    with pytest.raises(DiscernError, match=r"begins with tower; the names are 0\.bias"):
        restore(request(saved(tmp_path, network().state_dict()), prefix="tower"), network())


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


def test_shards_are_read_only_as_far_as_wanted(tmp_path):
    save_file({"tower.a": torch.ones(2), "language.a": torch.ones(3)}, tmp_path / "1.safetensors")
    save_file({"tower.b": torch.zeros(2)}, tmp_path / "2.safetensors")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert set(read_state(files, ["tower."])) == {"tower.a", "tower.b"}
    save_file({"tower.b": torch.zeros(2)}, tmp_path / "3.safetensors")
    with pytest.raises(DiscernError, match=r"a second tensor named tower\.b"):
        read_state(sorted(tmp_path.glob("*.safetensors")), ["tower."])


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("owned"),))


def test_a_file_that_holds_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DiscernError, match="holds more than tensors"):
        read_state([saved(tmp_path, {"a": Payload()})], [""])
    assert not Path("owned").exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_a_truncated_file_is_named(tmp_path, name):
    whole = tmp_path / f"whole{Path(name).suffix}"
    if name.endswith("pth"):
        torch.save({"a": torch.ones(1000)}, whole)
    else:
        save_file({"a": torch.ones(1000)}, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(DiscernError, match=f"{name}: cannot be read as a checkpoint"):
        read_state([tmp_path / name], [""])


def test_no_weight_file_is_named():
    with pytest.raises(DiscernError, match="no weight file among: nothing"):
        restore(request(None), network())
