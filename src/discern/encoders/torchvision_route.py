"""Encoders built by torchvision: the network up to its classifier, or up to an inner module."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

from discern.encoders.base import Encoder, Request
from discern.encoders.state import restore, seed_random
from discern.encoders.torch_base import building, torch_encoder
from discern.errors import did_you_mean, problem

HEADS = ("classifier", "fc", "heads", "head")  # what the families call their classifier


def load(request: Request) -> Encoder:
    """Architecture ``loader.arch`` of torchvision.

    ``output``: empty, what its classifier would receive; else the dotted name of an inner module
    (``classifier.4``), whose output is taken, averaged over space where it is a map. What comes
    after that module is not built, and its published tensors are left out.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if request.loader.arch not in known:
        hint = did_you_mean(request.loader.arch, known)
        raise problem(f"model '{request.model}'", f"torchvision has no model '{request.loader.arch}'{hint}")
    seed_random(request)
    with building(request):
        module = torchvision.models.get_model(request.loader.arch, weights=None, **request.loader.options)
    if request.output:
        return _inner(request, module)
    head = next(name for name in HEADS if hasattr(module, name))
    restore(request, module, head, lambda: setattr(module, head, torch.nn.Identity()))
    return torch_encoder(request, module)


def _inner(request: Request, module: torch.nn.Module) -> Encoder:
    names = [name for name, _ in module.named_modules() if name]
    if request.output not in names:
        hint = did_you_mean(request.output, names)
        raise problem(f"model '{request.model}'", f"output: no module is called '{request.output}'{hint}")
    part: Any = create_feature_extractor(module.eval(), {request.output: "feature"})
    restore(_without(request, module.state_dict().keys() - part.state_dict().keys()), part)

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = part(pictures)["feature"]
        return result.mean(dim=(2, 3)) if result.ndim == 4 else result

    return torch_encoder(request, part, forward)


def _without(request: Request, names: set[str]) -> Request:
    """The request for a checkpoint that also holds ``names``, which the encoder does not have."""
    behind = [rf"(^|\.){re.escape(name)}$" for name in sorted(names)]
    return replace(request, loader=request.loader.model_copy(update={"drop": request.loader.drop + behind}))
