"""The image side of LLaVA-type chat models: CLIP tower, projector, and pictures at several scales.

Built without the language model, so that a checkpoint of 15 GB needs the memory of its tower. Names are
those of transformers' CLIPVisionModel for the tower and of the -hf repositories for the projector.
Sources: Liu et al., LLaVA 1.5, 2023; Shi et al., S2 (scaling on scales), 2024, and its ``s2wrapper``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel

from discern.errors import problem

#: CLIP ViT-L/14 at 336 pixels, the tower of every LLaVA.
TOWER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
}


class Projector(torch.nn.Module):
    """Two layers with a GELU between them: tokens of the tower -> tokens of the language model."""

    def __init__(self, width: int, d: int):
        super().__init__()
        self.linear_1 = torch.nn.Linear(width, d)
        self.linear_2 = torch.nn.Linear(d, d)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, n, width) -> (B, n, d)."""
        projected: torch.Tensor = self.linear_2(functional.gelu(self.linear_1(tokens)))
        return projected


class LlavaImages(CLIPVisionModel):
    """A CLIP tower with the readings that LLaVA's authors take of it, each a method of pictures.

    Pictures are (B, 3, S, S), S the tower's size or, for the multi-scale readings, the largest scale.
    """

    def __init__(self, config: Any, projector: int, scales: Sequence[int]):
        super().__init__(config)
        self.scales = sorted(scales)
        if self.scales and any(scale % config.image_size for scale in self.scales):
            raise problem(
                "loader.options.scales",
                f"found {list(scales)}, must be multiples of the tower's {config.image_size} pixels",
            )
        self.multi_modal_projector = None
        if projector:
            width = config.hidden_size * max(1, len(self.scales))
            self.multi_modal_projector = Projector(width, projector)

    def tower_patch_mean(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, width): mean of the patches of the last layer but one."""
        return self._tokens(pictures).mean(dim=1)

    def tower_pooled_cls(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, width): class token of the last layer after its norm."""
        pooled: torch.Tensor = self(pixel_values=pictures).pooler_output
        return pooled

    def projector_patch_mean(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, projector): the patches as the language model gets them, averaged."""
        return self._projected(self._tokens(pictures)).mean(dim=1)

    def s2_tower_patch_mean(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, scales * width): patches of every scale, averaged and concatenated."""
        return self._s2_tokens(pictures).mean(dim=1)

    def s2_projector_patch_mean(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, projector): multi-scale patches as the language model gets them, averaged."""
        return self._projected(self._s2_tokens(pictures)).mean(dim=1)

    def _tokens(self, pictures: torch.Tensor) -> torch.Tensor:
        """hidden_states[-2] without the class token, (B, n, width), without computing the last layer."""
        hidden = self.pre_layrnorm(self.embeddings(pictures))
        for layer in self.encoder.layers[:-1]:
            hidden = layer(hidden, None)
        return hidden[:, 1:]

    def _s2_tokens(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, n, scales * width), n patches as at the smallest scale."""
        if not self.scales or pictures.shape[-1] != self.scales[-1]:
            raise problem(
                "loader.options.scales",
                f"found {self.scales}, the picture has {pictures.shape[-1]} pixels",
                repair="name the scales, and give the largest as preprocess.size and crop",
            )
        merged = []
        for scale in self.scales:
            # As the authors: from the standardised large picture, bicubic, and without antialiasing.
            resized = functional.interpolate(pictures, size=scale, mode="bicubic")
            merged.append(self._grid(resized))
        side = merged[0].shape[-1]
        pooled = [functional.adaptive_avg_pool2d(grid, side) for grid in merged]
        return torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)

    def _grid(self, pictures: torch.Tensor) -> torch.Tensor:
        """Patches of a picture of k x k tiles of the tower's size: (B, width, k * side, k * side)."""
        size = self.config.image_size
        side = size // self.config.patch_size
        rows = []
        for row in pictures.split(size, dim=2):  # all tiles at once would need k times the memory
            tiles = row.split(size, dim=3)
            tokens = self._tokens(torch.cat(tiles)).transpose(1, 2).unflatten(2, (side, side))
            rows.append(torch.cat(tokens.chunk(len(tiles)), dim=3))
        return torch.cat(rows, dim=2)

    def _projected(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.multi_modal_projector is None:
            raise problem("loader.options.projector", "is 0, but this feature lies behind the projector")
        projected: torch.Tensor = self.multi_modal_projector(tokens)
        return projected


def build(projector: int = 0, scales: Sequence[int] = (), **tower: Any) -> LlavaImages:
    """The tower alone, or with a projector to ``projector`` dimensions.

    ``scales``: picture sizes in pixels of the multi-scale readings; with them the projector takes the
    concatenation. ``tower``: what differs from CLIP ViT-L/14-336, fields of CLIPVisionConfig.
    """
    return LlavaImages(CLIPVisionConfig(**TOWER | tower), projector, scales)
