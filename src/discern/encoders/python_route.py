"""Networks that no library builds: one function of a Python module returns the network.

Our own re-implementations under ``discern.encoders.networks`` and a user's ``my_models.py`` beside
``config.yaml`` go the same way.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from discern.encoders.base import Encoder, Request
from discern.encoders.state import restore, seed_random
from discern.encoders.torch_base import building, torch_encoder
from discern.errors import did_you_mean, problem
from discern.own_code import own_function


def load(request: Request) -> Encoder:
    """``loader.arch`` is ``package.module:function``; the function gets ``loader.options``.

    It returns a torch.nn.Module whose state-dict names fit the card. ``output``: empty, the module
    called on the pictures, float32 (B, C, H, W) -> (B, d); else the method of that name. With
    ``keys: converted`` the module's own ``convert(state) -> state`` sees the published names first.
    """
    seed_random(request)
    module = build_module(request)
    forward = _forward(request, module)
    restore(request, module, convert=getattr(module, "convert", None))
    return torch_encoder(request, module, forward)


def build_module(request: Request) -> Any:
    """The network that the function of ``loader.arch`` returns."""
    arch, where = request.loader.arch, f"model '{request.model}'"
    environment = "name an environment that has it in the card's field `environment`"
    make = own_function(arch, f"{where}: loader.arch", environment)
    with building(request):
        module = make(**request.loader.options)
    if not isinstance(module, torch.nn.Module):
        raise problem(where, f"{arch} returned {type(module).__name__}, not a torch.nn.Module")
    return module


def _forward(request: Request, module: Any) -> Any:
    if not request.output:
        return module
    # What every module has (eval, double ...) is no output.
    own = [n for n in dir(module) if n not in dir(torch.nn.Module) and not n.startswith("_")]
    known = [n for n in own if inspect.ismethod(getattr(module, n))]
    if request.output not in known:
        raise problem(
            f"model '{request.model}'",
            f"output: the network has no method '{request.output}'{did_you_mean(request.output, known)}",
            allowed=["'' (the network itself)", *known],
        )
    return getattr(module, request.output)
