"""Scores of masked images by any encoder: encoder, standardiser and SVM as one function of the mask's number.

NumPy only; encoders that are torch networks have their own head in ``torch_scoring``, which is imported
only for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from discern.analysis.linear import Classifier, decision_values
from discern.analysis.rise.masks import MaskBank
from discern.config import RisePrecision
from discern.encoders.base import Encoder
from discern.features.batches import Halving


@dataclass(frozen=True)
class Folded:
    """Standardiser and linear functions as one: values = features @ weights.T + constant, float64.

    weights: (rows, d), constant: (rows,); ``decisions`` makes one value per class of them.
    """

    weights: np.ndarray
    constant: np.ndarray
    classes: int
    estimator: str

    @classmethod
    def of(cls, classifier: Classifier) -> Folded:
        """The same decision values as ``classifier.decision``, up to rounding in float64."""
        weights = classifier.coef / classifier.scale
        constant = classifier.intercept - weights @ classifier.mean
        return cls(weights, constant, len(classifier.classes), classifier.estimator)

    def linear(self, features: np.ndarray) -> np.ndarray:
        """Features (n, d) of any float type -> values of the linear functions (n, rows) float64."""
        values: np.ndarray = features.astype(np.float64) @ self.weights.T + self.constant
        return values

    def decisions(self, values: np.ndarray) -> np.ndarray:
        """Values of the linear functions (n, rows) -> decision values (n, k), votes included."""
        return decision_values(values, self.classes, self.estimator)


class Scorer(ABC):
    """Decision values of one image under the masks of a bank, in batches that shrink if memory runs out."""

    #: What a network computes in whose card says float32.
    precision: RisePrecision = "card"

    def __init__(self, encoder: Encoder, classifier: Classifier, bank: MaskBank, batch_size: int):
        self.encoder, self.bank, self.folded = encoder, bank, Folded.of(classifier)
        self._batches = Halving(batch_size, encoder.device, "masked image", "masked images", self._forget)

    @property
    def batch_size(self) -> int:
        """Masked images at once: as asked, or fewer since memory ran out."""
        return self._batches.size

    def look_at(self, image: np.ndarray) -> None:
        """Take the image to mask: preprocessed, float32 (C, H, W) of the bank's size."""
        self.image = np.ascontiguousarray(image, dtype=np.float32)

    def unmasked(self) -> np.ndarray:
        """Decision values of the image itself, (k,) float64, by the encoder as it is for extraction."""
        return self.folded.decisions(self.folded.linear(self.encoder.encode(self.image[None])))[0]

    @abstractmethod
    def _values(self, start: int, n: int) -> Any:
        """Values of the linear functions under masks start, start + 1, ...: (n, rows), on any device."""

    @abstractmethod
    def _gathered(self, parts: list[Any]) -> np.ndarray:
        """The results of ``_values`` as one array, float64."""

    def scores(self, start: int, stop: int) -> np.ndarray:
        """Decision values of all classes under masks start .. stop - 1, float64 (stop - start, k)."""
        parts = self._batches.over(start, stop, lambda first, end: self._values(first, end - first))
        return self.folded.decisions(self._gathered(parts))

    def _forget(self) -> None:  # noqa: B027 (most hold nothing)
        """Drop whatever is kept between batches."""

    def deviation(self) -> dict[str, float]:
        """Largest difference of the decision values from float32: of the image, and of one batch of masks."""
        return {"unmasked": 0.0, "masked": 0.0}


class ArrayScorer(Scorer):
    """Encoders that take arrays: ONNX graphs, pixels. They compute in float32 on the CPU."""

    def _values(self, start: int, n: int) -> np.ndarray:
        masks = np.empty((n, *self.bank.size), np.float32)
        self.bank.fill(start, masks)
        return self.folded.linear(self.encoder.encode(self.image[None] * masks[:, None]))

    def _gathered(self, parts: list[Any]) -> np.ndarray:
        return np.concatenate(parts)


#: Masked images at once of encoders that take arrays, where the setting is ``auto``.
ARRAYS = 16


def scorer_of(
    encoder: Encoder,
    classifier: Classifier,
    bank: MaskBank,
    batch_size: int | Literal["auto"] = "auto",
    precision: RisePrecision = "card",
) -> Scorer:
    """The scorer for an encoder: on its own device if it is a torch network.

    ``precision`` is for torch networks; the others compute in float32.
    """
    if not hasattr(encoder, "module"):
        return ArrayScorer(encoder, classifier, bank, ARRAYS if batch_size == "auto" else batch_size)
    from discern.analysis.rise.torch_scoring import TorchScorer

    return TorchScorer(encoder, classifier, bank, batch_size, precision)
