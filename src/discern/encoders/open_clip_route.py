"""Image towers built by open_clip, from the name of an architecture or from a written-out config."""

from __future__ import annotations

import copy
from typing import Any

import open_clip
import torch
from open_clip.model import _build_vision_tower

from discern.encoders.base import Encoder, Request, only
from discern.encoders.published import check_open_clip, published_open_clip
from discern.encoders.state import restore, seed_random
from discern.encoders.torch_base import building, torch_encoder
from discern.errors import did_you_mean, problem


def load(request: Request) -> Encoder:
    """Image tower of ``loader.arch``, or of ``loader.options`` (embed_dim, vision_cfg, quick_gelu).

    ``loader.prefix`` is usually ``visual.``. ``output``: empty, the projected embedding;
    ``pre_projection``, the vector before the projection. ``quick_gelu`` must be said, by the card or by
    a fetched ``open_clip_config.json``; timm's networks have their own activation.
    """
    output = only(request, "", "pre_projection")
    config = _config(request)
    seed_random(request)
    # The public factory would build the text tower too, and ask a hub for its configuration.
    with building(request):
        module = _build_vision_tower(
            config["embed_dim"], config["vision_cfg"], quick_gelu=config.get("quick_gelu", False)
        )
    restore(request, module)
    if output == "pre_projection":
        _drop_projection(module, request)

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        features = module(pictures)
        return features[0] if isinstance(features, tuple) else features

    return torch_encoder(request, module, forward)


def _config(request: Request) -> dict[str, Any]:
    arch = request.loader.arch
    config: dict[str, Any] = {}
    if arch:
        if arch not in open_clip.list_models():
            hint = did_you_mean(arch, open_clip.list_models())
            raise problem(f"model '{request.model}'", f"open_clip has no model '{arch}'{hint}")
        config = copy.deepcopy(open_clip.get_model_config(arch) or {})
    config |= request.loader.options
    config = config or published_open_clip(request)
    if missing := {"embed_dim", "vision_cfg"} - config.keys():
        raise problem(
            f"model '{request.model}'",
            f"loader.options lacks {', '.join(sorted(missing))}",
            repair="name loader.arch, or write both out in loader.options, or fetch open_clip_config.json",
        )
    # The activation leaves no trace in a checkpoint: with the wrong one all keys fit and features differ.
    if "quick_gelu" not in config and (published := published_open_clip(request)):
        config["quick_gelu"] = published["quick_gelu"]
    free = request.loader.keys == "random" or config["vision_cfg"].get("timm_model_name")
    if "quick_gelu" not in config and not free:
        raise problem(
            f"model '{request.model}'",
            "loader.options lacks quick_gelu, the activation",
            allowed=["true (weights of OpenAI, and those tuned from them)", "false (most others)"],
        )
    check_open_clip(request, config)
    config["vision_cfg"] = dict(config["vision_cfg"]) | {"timm_model_pretrained": False}
    return config


def _drop_projection(module: Any, request: Request) -> None:
    if hasattr(module, "trunk"):  # a timm network with a projection named head
        module.head = torch.nn.Identity()
    elif hasattr(module, "proj"):
        module.proj = None
    else:
        raise problem(f"model '{request.model}'", "this image tower has no separate projection")
