"""The image side of FLAIR and KeepFIT: torchvision's ResNet-50 and the projection behind it.

Silva-Rodriguez et al., "A Foundation Language-Image Model of the Retina (FLAIR)" (Medical Image Analysis
2025). The pooled vector has its length taken off before the projection, which no library's head does.
Names are those of the checkpoints below ``vision_model.``.
"""

from __future__ import annotations

import torch
import torchvision


class Flair(torch.nn.Module):
    """ResNet-50 without classifier, then unit length, then a matrix without bias."""

    def __init__(self, width: int = 2048, d: int = 512):
        super().__init__()
        self.model = torchvision.models.resnet50(weights=None)
        self.model.fc = torch.nn.Identity()
        projection = torch.nn.Linear(width, d, bias=False)
        self.projection_head_vision = torch.nn.ModuleDict({"projection": projection})

    def pooled(self, pictures: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, H, W) -> global average pool of the last stage, (B, 2048)."""
        result: torch.Tensor = self.model(pictures)
        return result

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, H, W) -> (B, 512), not normalised again: that belongs to zero-shot scores."""
        pool = torch.nn.functional.normalize(self.pooled(pictures), dim=-1)
        result: torch.Tensor = self.projection_head_vision["projection"](pool)
        return result


def build(d: int = 512) -> Flair:
    """The network; ``d`` is the length of the joint embedding."""
    return Flair(d=d)
