"""CXR-CLIP's image side with its projection, for the vector that the model compares with text.

The trunks alone need no code of ours: transformers' Swin, torchvision's ResNet-50. Names are the
published ones. Source: You et al., CXR-CLIP, 2023, and https://github.com/Soombit-ai/cxr-clip.
"""

from __future__ import annotations

from typing import Any

import torch

WIDTH = 512  # of the joint space


class Projected(torch.nn.Module):
    """A trunk and the linear projection (with bias) of its feature."""

    def __init__(self, name: str, trunk: torch.nn.Module, width: int):
        super().__init__()
        self.image_encoder = torch.nn.ModuleDict({name: trunk})
        self.image_projection = torch.nn.ModuleDict({"projection": torch.nn.Linear(width, WIDTH)})

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, 224, 224) -> (B, 512), not normalised."""
        (trunk,) = self.image_encoder.values()
        feature = trunk(pictures)
        if not isinstance(feature, torch.Tensor):
            # Swin has no class token: the authors project the top-left cell, and trained it so.
            feature = feature.last_hidden_state[:, 0]
        projected: torch.Tensor = self.image_projection["projection"](feature)
        return projected


def swin(**options: Any) -> Projected:
    """Swin-T and projection; ``options`` are transformers' SwinConfig."""
    from transformers import SwinConfig, SwinModel

    trunk = SwinModel(SwinConfig(**options))
    return Projected("image_encoder", trunk, trunk.num_features)


def resnet50() -> Projected:
    """ResNet-50 and projection."""
    import torchvision

    trunk = torchvision.models.resnet50(weights=None)
    width = trunk.fc.in_features
    trunk.fc = torch.nn.Identity()
    return Projected("resnet", trunk, width)
