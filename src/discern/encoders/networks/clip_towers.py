"""Image towers of open_clip where its own route does not reach.

The modified ResNet has features before its attention pool, which open_clip gives no name; and a vision
transformer may have to run with another activation than its published configuration says.
"""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from open_clip.modified_resnet import ModifiedResNet

from discern.errors import did_you_mean, problem


class ClipResNet(ModifiedResNet):
    """open_clip's tower; calling it gives the attention-pooled vector."""

    def pre_attnpool_mean(self, pictures: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, H, W) -> spatial mean of the last stage, (B, 32 * width)."""
        features: torch.Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(pictures)))))
        return features.mean(dim=(2, 3))


def resnet(arch: str = "RN50-quickgelu", **vision: Any) -> ClipResNet:
    """The image tower of ``arch``; ``vision`` replaces fields of its vision_cfg."""
    config = _config(arch)
    fields = CLIPVisionCfg(**(config["vision_cfg"] | vision))
    if isinstance(fields.layers, int):
        raise problem("loader.options: arch", f"'{arch}' is no ResNet", allowed=["RN50-quickgelu", "RN101"])
    return ClipResNet(
        layers=fields.layers,
        output_dim=config["embed_dim"],
        heads=fields.width * 32 // fields.head_width,
        image_size=fields.image_size,
        width=fields.width,
    )


def vit(arch: str, quick_gelu: bool, **vision: Any) -> torch.nn.Module:
    """The image tower of ``arch`` with this activation, whatever was published beside its weights."""
    config = _config(arch)
    tower: torch.nn.Module = _build_vision_tower(
        config["embed_dim"], config["vision_cfg"] | vision, quick_gelu=quick_gelu
    )
    return tower


def _config(arch: str) -> dict[str, Any]:
    config: dict[str, Any] | None = open_clip.get_model_config(arch)
    if config is None:
        hint = did_you_mean(arch, open_clip.list_models())
        raise problem("loader.options: arch", f"open_clip has no model '{arch}'{hint}")
    return config
