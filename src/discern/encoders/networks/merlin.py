"""Merlin's image encoder: a ResNet-152 whose convolutions have a third axis, for volumes of one channel.

Blankemeier et al. (2024), "Merlin: a vision language foundation model for 3D computed tomography". The
names of the state dict are those published under ``encode_image.i3_resnet.``; tests/parity compares the
network with the authors' package. That package starts from ImageNet weights, which its own then replace.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

#: Channels that a bottleneck gives per channel inside it.
EXPANSION = 4


def build(
    layers: Sequence[int] = (3, 8, 36, 3), width: int = 64, contrastive_d: int | None = None
) -> nn.Module:
    """The network; ``contrastive_d`` is the length of the contrastive head's output, None leaves it out.

    ``layers`` are the blocks of each stage and ``width`` the channels of the stem; smaller ones for tests.
    """
    return InflatedResNet(layers, width, contrastive_d)


class Bottleneck(nn.Module):
    """Channels down, 3 x 3 x 3 with the stride on all three axes, channels up, plus the shortcut."""

    def __init__(self, inside: int, width: int, stride: int, shortcut: bool):
        super().__init__()
        self.conv1 = nn.Conv3d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, width * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(width * EXPANSION)
        self.downsample: nn.Module | None = None
        if shortcut:
            outside = nn.Conv3d(inside, width * EXPANSION, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(outside, nn.BatchNorm3d(width * EXPANSION))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, T, H, W) -> (B, EXPANSION * width, T / stride, H / stride, W / stride)."""
        inner = self.bn1(self.conv1(x)).relu_()
        inner = self.bn2(self.conv2(inner)).relu_()
        inner = self.bn3(self.conv3(inner))
        return inner.add_(x if self.downsample is None else self.downsample(x)).relu_()


class InflatedResNet(nn.Module):
    """Volumes, float32 (B, 1, X, Y, Z) in RAS order -> pooled features, float32 (B, 32 * width)."""

    def __init__(self, layers: Sequence[int], width: int, contrastive_d: int | None):
        super().__init__()
        # The slices come in three equal channels, as pictures did to the network that was inflated.
        self.conv1 = nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        inside = width
        for i, depth in enumerate(layers):
            inner = width * 2**i
            setattr(self, f"layer{i + 1}", _stage(inside, inner, depth, stride=1 if i == 0 else 2))
            inside = inner * EXPANSION
        self._stages = [f"layer{i + 1}" for i in range(len(layers))]
        if contrastive_d is not None:
            self.contrastive_head = nn.Conv3d(inside, contrastive_d, 1)

    def forward(self, volumes: Tensor) -> Tensor:
        """The average over the last feature map: what the package's embedding mode gives."""
        return self._pooled(volumes).flatten(1)

    def contrastive(self, volumes: Tensor) -> Tensor:
        """(B, 1, X, Y, Z) -> (B, contrastive_d): what is compared with reports, not normalised."""
        projected: Tensor = self.contrastive_head(self._pooled(volumes))
        return projected.flatten(1)

    def _pooled(self, volumes: Tensor) -> Tensor:
        x = volumes.permute(0, 1, 4, 2, 3).expand(-1, 3, -1, -1, -1)  # slices become the first axis
        x = self.maxpool(self.bn1(self.conv1(x)).relu_())
        for stage in self._stages:
            x = getattr(self, stage)(x)
        return x.mean(dim=(2, 3, 4), keepdim=True)


def _stage(inside: int, width: int, depth: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inside, width, stride, shortcut=True)
    others = [Bottleneck(width * EXPANSION, width, 1, shortcut=False) for _ in range(depth - 1)]
    return nn.Sequential(first, *others)
