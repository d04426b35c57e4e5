"""Text towers of vision-language models: for zero-shot work on the same checkpoints.

The tower is built, its keys are selected, renamed and loaded strictly, exactly as on the image side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from discern.encoders.base import Request, weight_files
from discern.encoders.python_route import build_module
from discern.encoders.state import SUFFIXES, read_state, restore
from discern.encoders.tokenizers import Tokenize, load_tokenizer
from discern.errors import problem
from discern.model_card import ModelCard, Preprocess, TextTower

#: Folder of the tokenizer's files beside the weights.
FOLDER = "text"

#: (ids, mask) int64 (B, L) -> embeddings (B, d)
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class TextEncoder:
    """A frozen text tower with its tokenizer and the scale of its similarities."""

    def __init__(self, text: TextTower, tokenize: Tokenize, forward: Forward, scale: float, bias: float):
        self.d, self.context_length, self.prompt = text.d, text.context_length, text.prompt
        self.logit_scale, self.logit_bias = scale, bias
        self.tokenize, self._forward = tokenize, forward

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> embeddings, float32 (n, d), not normalised; DiscernError for another length."""
        with torch.inference_mode():
            features: np.ndarray = self._forward(*self.tokenize(texts)).float().numpy()
        if features.shape != (len(texts), self.d):
            raise problem("text", f"the tower's output has shape {features.shape}, the card says d {self.d}")
        return features


def load_text_encoder(card: ModelCard, weights: dict[str, Path], folder: Path) -> TextEncoder:
    """The text tower of ``card`` from its checkpoint files; ``folder`` holds the tokenizer's files.

    Runs on the CPU: prompts are few. Raises DiscernError for models without text tower.
    """
    text = card.text
    if text is None:
        raise problem(f"model '{card.name}'", f"has no text tower ({card.text_note or 'vision only'})")
    request = Request(
        model=f"{card.name} (text)",
        loader=text.loader,
        preprocess=Preprocess(resize="none", size=1),
        output=text.output,
        d=text.d,
        weights=weights,
        device="cpu",
    )
    module, forward = ROUTES[text.loader.route](request)
    restore(request, module)
    module.eval().requires_grad_(False).float()
    scale = _published(request, text.logit_scale)
    return TextEncoder(
        text,
        load_tokenizer(text.tokenizer, folder, text.context_length),
        forward,
        math.exp(scale) if isinstance(text.logit_scale, str) else scale,
        _published(request, text.logit_bias) if text.logit_bias else 0.0,
    )


def _published(request: Request, value: str | float) -> float:
    """A number of the card, or the published scalar of that name."""
    if not isinstance(value, str):
        return value
    state = read_state(weight_files(request, SUFFIXES), [value])
    if value not in state or state[value].numel() != 1:
        raise problem(f"model '{request.model}'", f"the checkpoint has no scalar '{value}'")
    return float(state[value])


def _open_clip(request: Request) -> tuple[torch.nn.Module, Forward]:
    """The text tower of architecture ``loader.arch``, or of ``loader.options`` (embed_dim, text_cfg)."""
    import open_clip
    from open_clip.model import _build_text_tower

    loader = request.loader
    config: dict[str, Any] = dict(open_clip.get_model_config(loader.arch) or {}) if loader.arch else {}
    config |= loader.options
    if missing := {"embed_dim", "text_cfg"} - config.keys():
        raise problem(f"model '{request.model}'", f"loader.options lacks {', '.join(sorted(missing))}")
    module = _build_text_tower(config["embed_dim"], config["text_cfg"], config.get("quick_gelu", False))

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = module(ids)
        return found[0] if isinstance(found, tuple) else found

    return module, forward


def _transformers(request: Request) -> tuple[torch.nn.Module, Forward]:
    """Class ``loader.arch`` with ``loader.options``; output: text_embeds or pooler_output."""
    import transformers

    kind = getattr(transformers, request.loader.arch)
    module = kind(kind.config_class(**request.loader.options))

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # Causal towers need no mask, and SigLIP was trained without one.
        embedding: torch.Tensor = module(input_ids=ids)[request.output]
        return embedding

    return module, forward


def _python(request: Request) -> tuple[torch.nn.Module, Forward]:
    module = build_module(request)
    return module, module


ROUTES: dict[str, Callable[[Request], tuple[torch.nn.Module, Forward]]] = {
    "open_clip": _open_clip,
    "transformers": _transformers,
    "python": _python,
}
