"""Encoders built by timm, 0.6 or 1.x: the network without its classifier."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import timm
import torch

from discern.encoders.base import Encoder, Request, only
from discern.encoders.state import State, restore, seed_random
from discern.encoders.torch_base import building, torch_encoder
from discern.errors import did_you_mean, problem


def load(request: Request) -> Encoder:
    """Architecture ``loader.arch`` of timm.

    ``output``: empty, the pooled feature that the classifier would receive; ``cls``, the first
    token of the last layer; ``patch_mean``, the mean of its patch tokens; ``cls_patch_mean``, both
    joined; ``head``, the head is kept.
    """
    output = only(request, "", "cls", "patch_mean", "cls_patch_mean", "head")
    arch = request.loader.arch
    if not timm.is_model(arch.split(".")[0]):
        hint = did_you_mean(arch, timm.list_models())
        raise problem(f"model '{request.model}'", f"timm {timm.__version__} has no model '{arch}'{hint}")
    seed_random(request)
    with building(request):
        module: Any = timm.create_model(arch, pretrained=False, **request.loader.options)
    convert = _converter(arch, module)
    if output == "head":
        restore(request, module, convert=convert)
    else:
        restore(request, module, _head_name(module), lambda: module.reset_classifier(0), convert)
    return torch_encoder(request, module, None if output in ("", "head") else _tokens(request, module))


def _tokens(request: Request, module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    first = getattr(module, "num_prefix_tokens", None)
    if first is None or (first == 0 and request.output != "patch_mean"):
        kind = "tokens" if first is None else "class token"
        raise problem(f"model '{request.model}'", f"output '{request.output}': this network has no {kind}")

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        hidden = module.forward_features(pictures)
        mean = hidden[:, first:].mean(dim=1)
        if request.output == "patch_mean":
            return mean
        return hidden[:, 0] if request.output == "cls" else torch.cat([hidden[:, 0], mean], dim=1)

    return forward


def _head_name(module: Any) -> str:
    """Dotted name of the classifier as timm's own configuration gives it."""
    name = module.default_cfg.get("classifier") or ""
    return name if isinstance(name, str) else str(name[0])


def _converter(arch: str, module: Any) -> Callable[[State], State] | None:
    """timm's own converter of published names for this architecture, with its module filled in."""
    # timm files it beside the function that builds the architecture, under one of two names.
    source = sys.modules[timm.models.model_entrypoint(arch.split(".")[0]).__module__]
    convert = getattr(source, "checkpoint_filter_fn", None) or getattr(source, "_filter_fn", None)
    if convert is None:
        return None
    takes_module = len(inspect.signature(convert).parameters) > 1
    return functools.partial(convert, model=module) if takes_module else convert
