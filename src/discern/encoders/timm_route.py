"""Encoders built by timm, 0.6 or 1.x: the network without its classifier."""

from __future__ import annotations

from typing import Any

import timm
import torch

from discern.encoders.base import Encoder, Request, only
from discern.encoders.state import restore, seed_random
from discern.encoders.torch_base import torch_encoder
from discern.errors import did_you_mean, problem


def load(request: Request) -> Encoder:
    """Architecture ``loader.arch`` of timm.

    ``output``: empty, the pooled feature that the classifier would receive; ``cls``, the first
    token of the last layer; ``patch_mean``, the mean of its patch tokens; ``head``, the head is kept.
    """
    output = only(request, "", "cls", "patch_mean", "head")
    arch = request.loader.arch
    if not timm.is_model(arch.split(".")[0]):
        hint = did_you_mean(arch, timm.list_models())
        raise problem(f"model '{request.model}'", f"timm {timm.__version__} has no model '{arch}'{hint}")
    seed_random(request)
    module: Any = timm.create_model(arch, pretrained=False, **request.loader.options)
    if output == "head":
        restore(request, module)
    else:
        restore(request, module, _head_name(module), lambda: module.reset_classifier(0))

    def tokens(pictures: torch.Tensor) -> torch.Tensor:
        hidden = module.forward_features(pictures)
        first = getattr(module, "num_prefix_tokens", 1)
        return hidden[:, 0] if output == "cls" else hidden[:, first:].mean(dim=1)

    return torch_encoder(request, module, tokens if output in ("cls", "patch_mean") else None)


def _head_name(module: Any) -> str:
    """Dotted name of the classifier as timm's own configuration gives it."""
    name = module.default_cfg.get("classifier") or ""
    return name if isinstance(name, str) else str(name[0])
