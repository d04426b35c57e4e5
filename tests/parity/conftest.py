"""Parity tests compare features of two implementations, which need neither gradients nor many threads."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _quietly():
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
