"""Encoders built by torchvision: the network without its classifier."""

from __future__ import annotations

import torch
import torchvision

from discern.encoders.base import Encoder, Request, only
from discern.encoders.state import restore, seed_random
from discern.encoders.torch_base import torch_encoder
from discern.errors import did_you_mean, problem

HEADS = ("classifier", "fc", "heads", "head")  # what the families call their classifier


def load(request: Request) -> Encoder:
    """Architecture ``loader.arch`` of torchvision; feature: what its classifier would receive."""
    only(request, "")
    known = torchvision.models.list_models(module=torchvision.models)
    if request.loader.arch not in known:
        hint = did_you_mean(request.loader.arch, known)
        raise problem(f"model '{request.model}'", f"torchvision has no model '{request.loader.arch}'{hint}")
    seed_random(request)
    module = torchvision.models.get_model(request.loader.arch, weights=None, **request.loader.options)
    head = next(name for name in HEADS if hasattr(module, name))
    restore(request, module, head, lambda: setattr(module, head, torch.nn.Identity()))
    return torch_encoder(request, module)
