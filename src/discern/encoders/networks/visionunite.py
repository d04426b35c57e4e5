"""The image side of VisionUnite: EVA02 and CLIP's tower on the same picture, their vectors added.

Li et al., "VisionUnite" (IEEE TPAMI 2025). EVA02-B/14 sees 448 pixels; CLIP ViT-L/14 sees the same
preprocessed picture, statistics of EVA02 included, resized to 224; CLIP's vector has unit length before
the sum. Names are those of the checkpoint: ``eva02.model.*`` and ``clip.visual.*``.
"""

from __future__ import annotations

from typing import Any

import open_clip
import timm
import torch
from open_clip.model import _build_vision_tower
from torch.nn.functional import interpolate, normalize


class VisionUnite(torch.nn.Module):
    """Two towers of equal d; ``antialias`` is of the resize between them."""

    def __init__(self, eva02: torch.nn.Module, clip: torch.nn.Module, side: int, antialias: bool):
        super().__init__()
        self.eva02 = torch.nn.ModuleDict({"model": eva02})
        self.clip = torch.nn.ModuleDict({"visual": clip})
        self.side, self.antialias = side, antialias

    def eva02_only(self, pictures: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, 448, 448) -> mean of EVA02's patch tokens, normed, (B, 768)."""
        result: torch.Tensor = self.eva02["model"](pictures)
        return result

    def clip_only(self, pictures: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, 448, 448) -> CLIP's embedding of the picture at 224 px, (B, 768)."""
        size = (self.side, self.side)
        small = interpolate(
            pictures, size=size, mode="bilinear", align_corners=False, antialias=self.antialias
        )
        result: torch.Tensor = self.clip["visual"](small)
        return result

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, 448, 448) -> the vector that the authors hand to their adapter, (B, 768)."""
        return self.eva02_only(pictures) + normalize(self.clip_only(pictures), dim=-1)


def build(
    eva02: str = "eva02_base_patch14_448",
    clip: str = "ViT-L-14-quickgelu",
    eva02_options: dict[str, Any] | None = None,
    clip_options: dict[str, Any] | None = None,
    antialias: bool = False,
) -> VisionUnite:
    """Both towers by their names in timm and open_clip; options replace fields of their configurations."""
    config = open_clip.get_model_config(clip)
    if config is None:
        raise ValueError(f"open_clip has no model '{clip}'")
    vision = config["vision_cfg"] | (clip_options or {})
    tower = _build_vision_tower(config["embed_dim"], vision, quick_gelu=config.get("quick_gelu", False))
    trunk = timm.create_model(eva02, pretrained=False, num_classes=0, **(eva02_options or {}))
    return VisionUnite(trunk, tower, vision["image_size"], antialias)
