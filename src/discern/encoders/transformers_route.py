"""Vision models built by transformers from a written-out configuration; nothing is downloaded."""

from __future__ import annotations

import re

import torch
import transformers

from discern.encoders.base import Encoder, Request
from discern.encoders.state import restore, seed_random
from discern.encoders.torch_base import torch_encoder
from discern.errors import problem

OUTPUT = re.compile(r"(pooler_output|image_embeds|(cls|patch_mean)(@-?\d+)?)")


def load(request: Request) -> Encoder:
    """Class ``loader.arch`` (such as SiglipVisionModel) with the configuration ``loader.options``.

    ``output``: ``pooler_output``, ``image_embeds``, ``cls`` (first token) or ``patch_mean`` of
    the last hidden state; ``cls@-2`` and ``patch_mean@-2`` take the layer before.
    """
    output = request.output
    if not OUTPUT.fullmatch(output):
        raise problem(
            f"model '{request.model}'",
            f"output '{output}' is unknown to route 'transformers'",
            allowed=["pooler_output", "image_embeds", "cls", "patch_mean", "cls@-2", "patch_mean@-2"],
        )
    kind = getattr(transformers, request.loader.arch, None)
    if kind is None or getattr(kind, "config_class", None) is None:
        raise problem(
            f"model '{request.model}'",
            f"transformers {transformers.__version__} has no model class '{request.loader.arch}'",
        )
    seed_random(request)
    config = kind.config_class(**request.loader.options)
    module = kind(config)
    restore(request, module)
    name, _, layer = output.partition("@")

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        result = module(pixel_values=pictures, output_hidden_states=bool(layer))
        if name in ("pooler_output", "image_embeds"):
            return result[name]
        hidden = result.hidden_states[int(layer)] if layer else result.last_hidden_state
        if name == "cls":
            return hidden[:, 0]
        # Class and register tokens stand before the patches; their number differs by family.
        patches = (pictures.shape[2] // config.patch_size) * (pictures.shape[3] // config.patch_size)
        return hidden[:, hidden.shape[1] - patches :].mean(dim=1)

    return torch_encoder(request, module, forward)
