"""Vision models built by transformers from a written-out configuration; nothing is downloaded."""

from __future__ import annotations

import functools
import re
from typing import Any, cast

import torch
import transformers

from discern.encoders.base import Encoder, Request
from discern.encoders.published import check_transformers, published_options
from discern.encoders.state import State, restore, seed_random
from discern.encoders.torch_base import building, torch_encoder
from discern.errors import did_you_mean, problem

OUTPUT = re.compile(r"(pooler_output|image_embeds|(cls|patch_mean|cls_patch_mean)(@-?\d+)?)")


def load(request: Request) -> Encoder:
    """Class ``loader.arch`` (such as SiglipVisionModel) with the configuration ``loader.options``.

    ``output``: ``pooler_output``, ``image_embeds``; of the last hidden state ``cls`` (first token),
    ``patch_mean`` or both joined, ``cls_patch_mean``; ``cls@-2`` and the like take the layer before.
    """
    output = request.output
    if not OUTPUT.fullmatch(output):
        raise problem(
            f"model '{request.model}'",
            f"output '{output}' is unknown to route 'transformers'",
            allowed=["pooler_output", "image_embeds", "cls", "patch_mean", "cls_patch_mean", "patch_mean@-2"],
        )
    seed_random(request)
    module = _build(request)
    restore(request, module, convert=functools.partial(_converted, module))
    name, _, layer = output.partition("@")
    patch = module.config.patch_size

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        result = module(pixel_values=pictures, output_hidden_states=bool(layer))
        if name in ("pooler_output", "image_embeds"):
            return _own(request, result, name)
        hidden = result.hidden_states[int(layer)] if layer else result.last_hidden_state
        # Class and register tokens stand before the patches; their number differs by family.
        patches = (pictures.shape[2] // patch) * (pictures.shape[3] // patch)
        mean = hidden[:, hidden.shape[1] - patches :].mean(dim=1)
        tokens = {"cls": [hidden[:, 0]], "patch_mean": [mean], "cls_patch_mean": [hidden[:, 0], mean]}
        return torch.cat(tokens[name], dim=1)

    return torch_encoder(request, module, forward)


def _build(request: Request) -> Any:
    loader = request.loader
    kind = getattr(transformers, loader.arch, None)
    if kind is None or getattr(kind, "config_class", None) is None:
        raise problem(
            f"model '{request.model}'",
            f"transformers {transformers.__version__} has no model class '{loader.arch}'",
        )
    standard = kind.config_class()
    for option in loader.options:  # a misspelt one would be stored and never read
        if not hasattr(standard, option):
            hint = did_you_mean(option, standard.to_dict())
            raise problem(
                f"model '{request.model}'", f"{type(standard).__name__} has no option '{option}'{hint}"
            )
    with building(request):
        config = kind.config_class(**(loader.options or published_options(request, standard)))
        check_transformers(request, config)
        return kind(config)


def _converted(module: Any, state: State) -> State:
    """The state as transformers itself translates names of its older releases for this class."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        loaded, seen = type(module).from_pretrained(
            None, config=module.config, state_dict=state, output_loading_info=True, dtype=torch.float32
        )
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
    # What it could not place is handed on under its own name, what it made up is not: both are refused.
    result = {k: v for k, v in loaded.state_dict().items() if k not in seen["missing_keys"]}
    return result | {k: state[k] for k in seen["unexpected_keys"]}


def _own(request: Request, result: Any, name: str) -> torch.Tensor:
    if result.get(name) is None:
        raise problem(
            f"model '{request.model}'",
            f"{request.loader.arch} gives no '{name}'",
            allowed=[k for k, v in result.items() if isinstance(v, torch.Tensor)],
            repair="correct the feature's output or loader.arch in the model card",
        )
    return cast(torch.Tensor, result[name])
