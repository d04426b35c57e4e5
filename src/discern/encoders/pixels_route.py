"""The control without an encoder: the preprocessed thumbnail itself is the feature."""

from __future__ import annotations

import numpy as np

from discern.encoders.base import Encoder, FunctionEncoder, Request


def load(request: Request) -> Encoder:
    """Feature: the pixel values in row order, channel by channel."""

    def encode(batch: np.ndarray) -> np.ndarray:
        return batch.reshape(len(batch), -1)

    return FunctionEncoder(request, encode, "cpu")
