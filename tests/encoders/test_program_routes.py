"""Routes whose network is a program of the user's: a Python function, or a TorchScript file."""

import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from discern.encoders.base import load_encoder
from discern.errors import DiscernError

SIZE, D = 8, 5
CODE = """
    import torch

    class Tower(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.body = torch.nn.Linear(3 * 64, width)

        def forward(self, x):
            return self.body(x.flatten(1))

        def doubled(self, x):
            return 2 * self(x)

        def pair(self, x):
            return self(x), x

        def convert(self, state):
            return {k.replace("foreign", "body"): v for k, v in state.items()}

    def build(width=5):
        if width < 1:
            raise ValueError("width must be positive")
        return Tower(width)

    def number():
        return 3
"""


def spec(output="", **loader):
    return {
        "name": "planted",
        "loader": loader,
        "preprocess": {"resize": "squash", "size": SIZE},
        "feature": {"name": "planted", "d": D, "output": output},
    }


@pytest.fixture
def batch():
    return np.random.default_rng(0).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working folder with ``my_models.py`` and a checkpoint; the module is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_models.py").write_text(textwrap.dedent(CODE))
    torch.manual_seed(3)
    layer = torch.nn.Linear(3 * SIZE * SIZE, D)
    yield tmp_path, layer
    for name in [m for m in sys.modules if m.startswith(("my_models", "broken"))]:
        del sys.modules[name]


def weights(folder, state):
    save_file({k: v.clone() for k, v in state.items()}, folder / "model.safetensors")
    return {"model.safetensors": folder / "model.safetensors"}


def truth(layer, batch):
    return layer(torch.from_numpy(batch).flatten(1)).detach().numpy()


def test_a_function_beside_the_configuration(project, batch):
    folder, layer = project
    files = weights(folder, {f"tower.body.{k}": v for k, v in layer.state_dict().items()})
    loader = {"route": "python", "arch": "my_models:build", "options": {"width": D}, "prefix": "tower."}
    assert np.allclose(load_encoder(spec(**loader), files).encode(batch), truth(layer, batch), atol=1e-6)
    doubled = load_encoder(spec("doubled", **loader), files)
    assert np.allclose(doubled.encode(batch), 2 * truth(layer, batch), atol=1e-6)


def test_the_networks_own_converter(project, batch):
    folder, layer = project
    files = weights(folder, {f"foreign.{k}": v for k, v in layer.state_dict().items()})
    loader = {"route": "python", "arch": "my_models:build"}
    with pytest.raises(DiscernError, match=r"2 missing in the file .* \(foreign\.bias, foreign\.weight\)"):
        load_encoder(spec(**loader), files)
    encoder = load_encoder(spec(keys="converted", **loader), files)
    assert np.allclose(encoder.encode(batch), truth(layer, batch), atol=1e-6)


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("my_models", {}, r"loader\.arch: found 'my_models'\n  allowed: package\.module:function"),
        ("my_modules:build", {}, "there is no module 'my_modules'\n  repair: write my_modules.py in"),
        ("my_models.sub:build", {}, "there is no module"),
        ("my_models:bild", {}, "has no function 'bild'; did you mean 'build'"),
        ("my_models:build", {"width": 0}, "ValueError: width must be positive"),
        ("my_models:build", {"wide": 3}, "unexpected keyword argument 'wide'"),
        ("my_models:number", {}, "returned int, not a torch.nn.Module"),
        ("broken:build", {}, r"module 'broken' cannot be imported \(ZeroDivisionError"),
        (
            "broken_needs:build",
            {},
            "module 'broken_needs' needs 'absent_library', which",
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_said(project, arch, options, message):
    folder, layer = project
    (folder / "broken.py").write_text("1 / 0")
    (folder / "broken_needs.py").write_text("import absent_library")
    files = weights(folder, {f"body.{k}": v for k, v in layer.state_dict().items()})
    with pytest.raises(DiscernError, match=message):
        load_encoder(spec(route="python", arch=arch, options=options), files)


def test_an_output_that_is_no_method_or_no_vector_is_refused(project, batch):
    folder, layer = project
    files = weights(folder, {f"body.{k}": v for k, v in layer.state_dict().items()})
    loader = {"route": "python", "arch": "my_models:build"}
    with pytest.raises(DiscernError, match=r"no method 'double'; did you mean 'doubled'"):
        load_encoder(spec("double", **loader), files)
    with pytest.raises(DiscernError, match="output is of type tuple, not a tensor"):
        load_encoder(spec("pair", **loader), files).encode(batch)
    wide = spec(**loader) | {"feature": {"name": "planted", "d": 7, "output": ""}}
    with pytest.raises(DiscernError, match=r"shape \(2, 5\), the card says \(2, 7\)"):
        load_encoder(wide, files).encode(batch)


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(3 * SIZE * SIZE, D)
        self.dropout = torch.nn.Dropout(0.9)

    def forward(self, x):
        return self.dropout(self.body(x.flatten(1)))

    @torch.jit.export
    def halved(self, x):
        return self.body(x.flatten(1)) / 2


@pytest.mark.parametrize("kind", ["scripted", "half", "frozen", "traced"])
def test_a_torchscript_program(tmp_path, batch, kind):
    torch.manual_seed(1)
    module = Scripted()
    expected = truth(module.body, batch)
    if kind == "half":
        module = module.half()
    program = torch.jit.trace(module.eval(), torch.from_numpy(batch)) if kind == "traced" else None
    program = program or torch.jit.script(module.eval() if kind == "frozen" else module.train())
    torch.jit.save(torch.jit.freeze(program) if kind == "frozen" else program, tmp_path / "model.pt")
    encoder = load_encoder(spec(route="torchscript"), {"model.pt": tmp_path / "model.pt"})
    tolerance = 1e-2 if kind == "half" else 1e-6
    assert np.allclose(encoder.encode(batch), expected, atol=tolerance)
    if kind in ("scripted", "half"):
        halved = load_encoder(spec("halved", route="torchscript"), {"model.pt": tmp_path / "model.pt"})
        assert np.allclose(halved.encode(batch), expected / 2, atol=tolerance)


def test_what_is_wrong_with_a_torchscript_file_is_said(tmp_path):
    files = {name: tmp_path / name for name in ("a.pt", "b.pt")}
    torch.jit.save(torch.jit.script(Scripted()), files["a.pt"])
    torch.save({"a": torch.ones(2)}, files["b.pt"])
    one = {"a.pt": files["a.pt"]}
    with pytest.raises(DiscernError, match=r"b\.pt: is no TorchScript program"):
        load_encoder(spec(route="torchscript"), {"b.pt": files["b.pt"]})
    with pytest.raises(DiscernError, match=r"several TorchScript files: a\.pt, b\.pt"):
        load_encoder(spec(route="torchscript"), files)
    with pytest.raises(DiscernError, match="no method 'halve'; did you mean 'halved'"):
        load_encoder(spec("halve", route="torchscript"), one)
    with pytest.raises(DiscernError, match="brings its own network and weights"):
        load_encoder(spec(route="torchscript", arch="resnet18"), one)
    files["a.pt"].write_bytes(files["a.pt"].read_bytes()[:1000])
    with pytest.raises(DiscernError, match=r"a\.pt: is no TorchScript program"):
        load_encoder(spec(route="torchscript"), one)
