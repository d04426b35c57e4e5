"""The faults' networks: copied beside the study's config.yaml, run by the project's `python` route."""

import time
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent / "hold"
MB_HELD, SECONDS_HELD = 3072, 5


class Pooled(torch.nn.Module):
    """Grey values of an 8 x 8 grid through fixed weights: (B, 3, H, W) -> (B, 16)."""

    def __init__(self, before=None):
        super().__init__()
        self.head = torch.nn.Linear(192, 16)
        self.before = before

    def forward(self, pictures):
        if self.before:
            self.before()
            self.before = None  # once in a process
        return self.head(torch.nn.functional.adaptive_avg_pool2d(pictures, 8).flatten(1))


def steady():
    return Pooled()


def held(name):
    """A network that waits as long as the file hold/NAME exists, and says that it does."""

    def wait():
        (HERE / f"{name}.begun").touch()
        while (HERE / name).exists():
            time.sleep(0.2)

    return Pooled(wait)


def hungry():
    """A network that takes 3 GB for some seconds, at each attempt."""

    def eat():
        taken = np.ones(MB_HELD * 2**20 // 8)
        time.sleep(SECONDS_HELD)
        assert taken.sum()

    return Pooled(eat)
