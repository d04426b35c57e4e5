"""Scores of masked images by a torch network: coins go to its device, scores come back."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook

from discern.analysis.linear import Classifier
from discern.analysis.rise.masks import MaskBank
from discern.analysis.rise.scoring import Scorer
from discern.config import RisePrecision
from discern.encoders.base import Encoder
from discern.encoders.torch_base import TorchEncoder

#: Masks whose scores are compared with those of float32.
COMPARED = 16

#: Bytes of a network's largest activation that stay in a CPU's caches from one layer to the next.
CACHED = 16 * 2**20

#: Masked images at once on a CPU: with fewer, matrix products are too thin; with more, nothing is gained.
FEWEST, MOST = 4, 64

#: Masked images at once on an accelerator.
ACCELERATOR = 128


def _device(encoder: TorchEncoder) -> torch.device:
    tensors = [*encoder.module.parameters(), *encoder.module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _channels_last(module: torch.nn.Module) -> bool:
    """Whether the network's convolutions were laid out for pictures with the channels last."""
    # Kernels of one pixel, or for one channel, have both layouts at once: they tell nothing.
    return any(w.dim() == 4 and not w.is_contiguous() for w in module.parameters())


def largest_activation(encoder: TorchEncoder, picture: np.ndarray) -> int:
    """Bytes of the largest tensor that a part of the network returns for ``picture``, float32 (C, H, W).

    0 where the network does not show its parts, as TorchScript.
    """
    found = [0]

    def seen(module: torch.nn.Module, given: Any, returned: Any) -> None:
        if isinstance(returned, torch.Tensor):
            found.append(returned.nbytes)

    handle = register_module_forward_hook(seen)
    try:
        encoder.exact(picture[None])
    finally:
        handle.remove()
    return max(found)


def cached_batch(activation: int) -> int:
    """Masked images at once on a CPU, by the bytes of the largest activation of one.

    By sizes and not by time: the batch decides the last bits of the scores, which shall be the same in
    every run.
    """
    return max(FEWEST, min(MOST, CACHED // max(1, activation)))


class TorchScorer(Scorer):
    """Masks are upsampled, multiplied and scored on the encoder's device; the image is copied there once.

    ``batch_size`` ``auto`` is chosen at the first image. ``precision`` other than the card's computes the
    network under autocast; masks stay float32, the linear functions float64.
    """

    _image: torch.Tensor
    _across: torch.Tensor
    _buffer: torch.Tensor | None = None

    def __init__(
        self,
        encoder: Encoder,
        classifier: Classifier,
        bank: MaskBank,
        batch_size: int | Literal["auto"],
        precision: RisePrecision = "card",
    ):
        super().__init__(encoder, classifier, bank, ACCELERATOR if batch_size == "auto" else batch_size)
        network = cast(TorchEncoder, encoder)
        self._network, self.precision = network, precision
        self._device, self._last = _device(network), _channels_last(network.module)
        self._grids = self._sent(bank.grids)
        self._offsets = self._sent(bank.offsets)
        self._down = self._sent(bank.upsampled[0])
        self._open = batch_size == "auto" and self._device.type == "cpu"
        self._weights = self._sent(self.folded.weights.T)
        self._constant = self._sent(self.folded.constant)

    def _sent(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def look_at(self, image: np.ndarray) -> None:
        """Take the image to mask: preprocessed, float32 (C, H, W) of the bank's size."""
        super().look_at(image)
        if self._open:
            self._batches.size = cached_batch(largest_activation(self._network, self.image))
            self._open = False
        across = self._sent(self.bank.upsampled[1].transpose(0, 2, 1))
        pixels = self._sent(self.image)
        if self._last:  # every column of a mask as often as there are channels
            across = across.repeat_interleave(len(pixels), dim=2)
            pixels = pixels.permute(1, 2, 0).flatten(1)
        self._across, self._image = across, pixels.contiguous()

    def _linear(self, features: torch.Tensor) -> torch.Tensor:
        return features.double() @ self._weights + self._constant

    def _decisions(self, features: torch.Tensor) -> np.ndarray:
        return self.folded.decisions(self._gathered([self._linear(features)]))

    def _masked(self, start: int, n: int) -> torch.Tensor:
        """(n, C, H, W), in the layout of the network; the next call writes over it."""
        chosen = slice(start, start + n)
        down, across = self._down[self._offsets[chosen, 0]], self._across[self._offsets[chosen, 1]]
        rows = self._grids[chosen].float() @ across
        if self._buffer is None or len(self._buffer) < n:
            self._buffer = torch.empty((n, *self._image.shape), device=self._device)
        masked = self._buffer[:n]
        if self._last:
            # Whole rows at once: a product broadcast over the innermost channels takes twice as long.
            torch.bmm(down, rows, out=masked).mul_(self._image)
            return masked.unflatten(2, (-1, len(self.image))).movedim(-1, 1)
        return torch.mul(self._image, (down @ rows)[:, None], out=masked)

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
            unmasked = self._sent(self.image[None])
            for name, pictures in (("unmasked", unmasked), ("masked", masked)):
                rounded = self._decisions(self._features(pictures))
                exact = torch.from_numpy(self._network.exact(pictures.cpu().numpy())).to(self._device)
                found[name] = float(np.abs(self._decisions(exact) - rounded).max())
        return found
