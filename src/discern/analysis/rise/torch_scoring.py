"""Scores of masked images by a torch network: coins go to its device, scores come back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from discern.analysis.linear import Classifier
from discern.analysis.rise.masks import MaskBank
from discern.analysis.rise.scoring import Scorer
from discern.config import RisePrecision
from discern.encoders.base import Encoder
from discern.encoders.torch_base import TorchEncoder

#: Masks whose scores are compared with those of float32.
COMPARED = 16


def _device(encoder: TorchEncoder) -> torch.device:
    tensors = [*encoder.module.parameters(), *encoder.module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def on_accelerator(encoder: Encoder) -> bool:
    """Whether a torch encoder computes elsewhere than on the CPU."""
    return _device(cast(TorchEncoder, encoder)).type != "cpu"


def _layout(module: torch.nn.Module) -> torch.memory_format:
    """The layout of pictures that the network's convolutions were laid out for."""
    # Kernels of one pixel, or for one channel, have both layouts at once: they tell nothing.
    for weights in module.parameters():
        if weights.dim() == 4 and not weights.is_contiguous():
            return torch.channels_last
    return torch.contiguous_format


class TorchScorer(Scorer):
    """Masks are upsampled, multiplied and scored on the encoder's device; the image is copied there once.

    ``precision`` other than the card's computes the network under autocast; masks stay float32, the linear
    functions float64.
    """

    _image: torch.Tensor
    _buffer: torch.Tensor | None = None

    def __init__(
        self,
        encoder: Encoder,
        classifier: Classifier,
        bank: MaskBank,
        batch_size: int,
        precision: RisePrecision = "card",
    ):
        super().__init__(encoder, classifier, bank, batch_size)
        network = cast(TorchEncoder, encoder)
        self._network, self.precision = network, precision
        self._device, self._memory = _device(network), _layout(network.module)
        self._grids = self._sent(bank.grids)
        self._offsets = self._sent(bank.offsets)
        self._down, across = (self._sent(weights) for weights in bank.upsampled)
        self._across = across.transpose(1, 2).contiguous()
        self._weights = self._sent(self.folded.weights.T)
        self._constant = self._sent(self.folded.constant)

    def _sent(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def look_at(self, image: np.ndarray) -> None:
        """Take the image to mask: preprocessed, float32 (C, H, W) of the bank's size."""
        super().look_at(image)
        self._image = self._sent(self.image[None]).contiguous(memory_format=self._memory)

    def _linear(self, features: torch.Tensor) -> torch.Tensor:
        return features.double() @ self._weights + self._constant

    def _decisions(self, features: torch.Tensor) -> np.ndarray:
        return self.folded.decisions(self._gathered([self._linear(features)]))

    def _masked(self, start: int, n: int) -> torch.Tensor:
        chosen = slice(start, start + n)
        down, across = self._down[self._offsets[chosen, 0]], self._across[self._offsets[chosen, 1]]
        masks = down @ (self._grids[chosen].float() @ across)
        if self._buffer is None or len(self._buffer) < n:
            shape = (n, *self._image.shape[1:])
            self._buffer = torch.empty(shape, device=self._device).contiguous(memory_format=self._memory)
        return torch.mul(self._image, masks[:, None], out=self._buffer[:n])

    def _values(self, start: int, n: int) -> torch.Tensor:
        with torch.inference_mode():
            return self._linear(self._features(self._masked(start, n)))

    def _features(self, pictures: torch.Tensor) -> torch.Tensor:
        if self.precision == "card":
            return self._network.forward(pictures)
        with torch.autocast(self._device.type, getattr(torch, self.precision)):
            return self._network.forward(pictures)

    def _gathered(self, parts: list[Any]) -> np.ndarray:
        # Only here does the CPU wait for the device.
        array: np.ndarray = torch.cat(parts).cpu().numpy()
        return array

    def _forget(self) -> None:
        self._buffer = None

    def deviation(self) -> dict[str, float]:
        """Largest difference of the decision values from float32: of the image, and of one batch of masks."""
        found = {}
        with torch.inference_mode():
            masked = self._masked(0, min(COMPARED, self.batch_size, len(self.bank)))
            for name, pictures in (("unmasked", self._image), ("masked", masked)):
                rounded = self._decisions(self._features(pictures))
                exact = torch.from_numpy(self._network.exact(pictures.cpu().numpy())).to(self._device)
                found[name] = float(np.abs(self._decisions(exact) - rounded).max())
        return found
