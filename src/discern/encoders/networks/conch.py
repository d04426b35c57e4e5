"""CONCH v1's image tower: a timm vision transformer, an attentional pool and, if wanted, its projection.

Stock open_clip has no configuration for it, but all of its parts; names are the published ones without
``visual.``. Source: Lu et al., A visual-language foundation model for computational pathology, 2024,
and https://github.com/mahmoodlab/CONCH.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from open_clip.transformer import AttentionalPooler

WIDTH = 512  # of the pooled vector
HEADS = 8  # of the attentional pool, which has one query


class Conch(torch.nn.Module):
    """Trunk tokens -> one attentionally pooled and normalised vector."""

    def __init__(self, projection: bool, **trunk: Any):
        super().__init__()
        self.trunk = timm.create_model("vit_base_patch16_224", num_classes=0, global_pool="", **trunk)
        context = self.trunk.num_features
        self.attn_pool_contrast = AttentionalPooler(WIDTH, context, n_head=HEADS, n_queries=1)
        self.ln_contrast = torch.nn.LayerNorm(WIDTH)
        if projection:
            self.proj_contrast = torch.nn.Parameter(torch.zeros(WIDTH, WIDTH))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, 448, 448) -> (B, 512), the vector that the authors probe; not normalised to length 1."""
        pooled: torch.Tensor = self.ln_contrast(self.attn_pool_contrast(self.trunk(pictures))[:, 0])
        return pooled

    def projected(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, 448, 448) -> (B, 512), the vector that the model compares with text."""
        return self(pictures) @ self.proj_contrast


def build(projection: bool = False, **trunk: Any) -> Conch:
    """CONCH's image tower, with or without its projection; ``trunk`` goes to timm (img_size, depth ...)."""
    return Conch(projection, **trunk)
