"""CHIEF's patch encoder, CTransPath: a Swin transformer whose patch embedding is a small convolutional stem.

Source: Wang et al., Transformer-based unsupervised contrastive learning for histopathological image
classification, 2022, and https://github.com/hms-dbmi/CHIEF. Its authors patched timm 0.5.4; the
published names fit timm 1.x once each down-sampling layer moves to the stage that it opens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer


class ConvStem(torch.nn.Module):
    """Two convolutions of stride 2 and one of 1 x 1: pictures -> (B, H/4, W/4, embed_dim)."""

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        norm_layer: Callable[[int], torch.nn.Module],
        **unused: Any,
    ):
        super().__init__()
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        layers: list[torch.nn.Module] = []
        width, wider = in_chans, embed_dim // 8
        for _ in range(2):
            layers += [
                torch.nn.Conv2d(width, wider, kernel_size=3, stride=2, padding=1, bias=False),
                torch.nn.BatchNorm2d(wider),
                torch.nn.ReLU(),
            ]
            width, wider = wider, wider * 2
        self.proj = torch.nn.Sequential(*layers, torch.nn.Conv2d(width, embed_dim, kernel_size=1))
        self.norm = norm_layer(embed_dim)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, H/4, W/4, embed_dim), channels last as timm's Swin has it."""
        embedded: torch.Tensor = self.norm(self.proj(pictures).permute(0, 2, 3, 1))
        return embedded


def build(**options: Any) -> torch.nn.Module:
    """CTransPath without classifier: (B, 3, 224, 224) -> mean of the final tokens, (B, 768)."""
    return SwinTransformer(num_classes=0, embed_layer=ConvStem, **options)
