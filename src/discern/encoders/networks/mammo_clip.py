"""Mammo-CLIP's image side: an EfficientNet whose padding is fixed for another picture size.

TensorFlow's SAME padding depends on the picture; efficientnet-pytorch computes it once, for the
network's nominal size (456 pixels for B5, 260 for B2), and the model was trained so on 1520 x 912.
timm pads for the picture at hand, which gives other features. Names are the published ones.
Source: Ghosh et al., Mammo-CLIP, 2024, and https://github.com/batmanlab/Mammo-CLIP.
"""

from __future__ import annotations

import torch
from efficientnet_pytorch import EfficientNet

WIDTH = 512  # of the joint space


class MammoClip(torch.nn.Module):
    """EfficientNet without classifier and, if wanted, the linear projection (with bias)."""

    def __init__(self, arch: str, projection: bool):
        super().__init__()
        self.image_encoder = EfficientNet.from_name(arch)
        width = self.image_encoder._fc.in_features
        self.image_encoder._fc = torch.nn.Identity()
        if projection:
            self.image_projection = torch.nn.ModuleDict({"projection": torch.nn.Linear(width, WIDTH)})

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> mean of the last convolution, (B, 2048) for B5 or (B, 1408) for B2."""
        pooled: torch.Tensor = self.image_encoder(pictures)
        return pooled

    def projected(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 512), the vector that the model compares with text; not normalised."""
        projected: torch.Tensor = self.image_projection["projection"](self(pictures))
        return projected


def build(arch: str = "efficientnet-b5", projection: bool = False) -> MammoClip:
    """Mammo-CLIP's image side, with or without its projection."""
    return MammoClip(arch, projection)
