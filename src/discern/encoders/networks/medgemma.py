"""The image side of Gemma 3 type chat models such as MedGemma: SigLIP tower and its projector.

Built without the language model. Names are those of transformers' SiglipVisionModel for the tower and
of Gemma3ForConditionalGeneration for the projector. Source: transformers' Gemma 3, and
https://github.com/Google-Health/medgemma.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import SiglipVisionConfig, SiglipVisionModel

from discern.errors import problem

#: SigLIP So400m/14 at 896 pixels without its attention-pooling head.
TOWER = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}
SIDE = 16  # of the grid of tokens that the language model gets


class RMSNorm(torch.nn.Module):
    """Division by the root mean square; Gemma stores the gain minus one."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(d))
        self.eps = eps

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, n, d) -> (B, n, d)."""
        return functional.rms_norm(tokens, self.weight.shape, 1 + self.weight, self.eps)


class Projector(torch.nn.Module):
    """Average pooling to 16 x 16 tokens, norm, one matrix: the soft tokens of the language model."""

    def __init__(self, width: int, d: int, eps: float):
        super().__init__()
        self.mm_input_projection_weight = torch.nn.Parameter(torch.zeros(width, d))
        self.mm_soft_emb_norm = RMSNorm(width, eps)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(B, n * n, width) -> (B, 256, d)."""
        n = round(patches.shape[1] ** 0.5)
        grid = patches.transpose(1, 2).unflatten(2, (n, n))
        pooled = functional.avg_pool2d(grid, n // SIDE).flatten(2).transpose(1, 2)
        soft: torch.Tensor = self.mm_soft_emb_norm(pooled) @ self.mm_input_projection_weight
        return soft


class GemmaImages(SiglipVisionModel):
    """A SigLIP tower and, if wanted, its projector; pictures are (B, 3, S, S)."""

    def __init__(self, config: Any, projector: int):
        super().__init__(config)
        self.multi_modal_projector = None
        if projector:
            self.multi_modal_projector = Projector(config.hidden_size, projector, config.layer_norm_eps)

    def tower_patch_mean(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, width): mean of all patches after the last norm."""
        return self._patches(pictures).mean(dim=1)

    def projector_mean(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, projector): mean of the 256 soft tokens."""
        if self.multi_modal_projector is None:
            raise problem("loader.options.projector", "is 0, but this feature lies behind the projector")
        return self.multi_modal_projector(self._patches(pictures)).mean(dim=1)

    def _patches(self, pictures: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self(pixel_values=pictures).last_hidden_state
        return hidden


def build(projector: int = 0, **tower: Any) -> GemmaImages:
    """The tower alone, or with a projector to ``projector`` dimensions.

    ``tower``: what differs from the tower of MedGemma 4B, fields of SiglipVisionConfig.
    """
    return GemmaImages(SiglipVisionConfig(**TOWER | tower), projector)
