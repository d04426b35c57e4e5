"""Random masks of RISE, kept as coin flips and offsets, made batch by batch.

Petsiuk, Das, Saenko (BMVC 2018), section 3.2: a grid of s x s coin flips is upsampled bilinearly and
cropped at a random offset. The upsampling is separable, so one mask is ``D_y @ grid @ D_x.T`` with two
small matrices chosen by the offset, and a bank of N masks costs N x (s * s + 16) bytes instead of
N x H x W x 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


def upsampling(grid: int, cell: int) -> np.ndarray:
    """Bilinear weights from ``grid`` points to (grid + 1) * cell pixels, float32 (pixels, grid).

    Pixel centres are aligned by area and the grid is mirrored about its outermost points: what
    ``skimage.transform.resize(order=1, mode="reflect", anti_aliasing=False)`` does in the authors' code.
    """
    pixels = (grid + 1) * cell
    position = np.abs((np.arange(pixels) + 0.5) * grid / pixels - 0.5)
    position = np.minimum(position, 2 * (grid - 1) - position) if grid > 1 else np.zeros(pixels)
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(grid)))
    return weights.astype(np.float32)


@dataclass(frozen=True)
class MaskBank:
    """N masks of ``size`` (height, width) pixels: coin flips bool (N, s, s) and offsets int (N, 2).

    ``weights`` are those of ``upsampling``, down and across. In a bank of ``pairs`` every second mask is
    the complement of the one before it.
    """

    size: tuple[int, int]
    p: float
    grids: np.ndarray
    offsets: np.ndarray
    weights: tuple[np.ndarray, np.ndarray]
    pairs: bool = False

    @classmethod
    def of(cls, grids: np.ndarray, offsets: np.ndarray, p: float, size: tuple[int, int]) -> MaskBank:
        """The bank of coins bool (N, s, s) and offsets int (N, 2), down and across, drawn elsewhere.

        ValueError for offsets beyond a cell of ceil(pixels / s) and for grids that are not square.
        """
        cells = [-(-pixels // grids.shape[1]) for pixels in size]
        if grids.shape != (len(offsets), grids.shape[1], grids.shape[1]):
            raise ValueError(f"coins of shape {grids.shape} with {len(offsets)} offsets, must be (N, s, s)")
        if ((offsets < 0) | (offsets >= cells)).any():
            raise ValueError(f"offsets {offsets.min(axis=0)} to {offsets.max(axis=0)}, must be below {cells}")
        down, across = (upsampling(grids.shape[1], cell) for cell in cells)
        return cls(size, p, grids, offsets, (down, across))

    def __len__(self) -> int:
        return len(self.grids)

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of a cell in pixels: how many offsets there are."""
        down, across = (len(w) // (w.shape[1] + 1) for w in self.weights)
        return down, across

    @cached_property
    def upsampled(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights at every offset, float32 (cells, pixels, s), down and across."""
        down, across = (
            weights[np.arange(cell)[:, None] + np.arange(pixels)]
            for weights, cell, pixels in zip(self.weights, self.cells, self.size, strict=True)
        )
        return down, across

    def first(self, n: int) -> MaskBank:
        """The bank of the first ``n`` masks."""
        return MaskBank(self.size, self.p, self.grids[:n], self.offsets[:n], self.weights, self.pairs)

    def fill(self, start: int, out: np.ndarray) -> None:
        """Write masks start, start + 1, ... into ``out``, float32 (n, *size), values in 0..1."""
        chosen = slice(start, start + len(out))
        down, across = (weights[self.offsets[chosen, axis]] for axis, weights in enumerate(self.upsampled))
        rows = self.grids[chosen].astype(np.float32) @ across.transpose(0, 2, 1)
        np.matmul(down, rows, out=out)


def draw_masks(
    n_masks: int, grid: int, p: float, size: tuple[int, int], seed: int, pairs: bool = False
) -> MaskBank:
    """Draw the bank for pictures of ``size`` (height, width) pixels.

    The same arguments give the same masks on every machine. Cells are ceil(pixels / grid) wide and the
    offset is 0..cell - 1, in each direction, as in the authors' code. The draw depends on no image and
    no model: all images of a cell, and all models of one input size, meet the same masks, so their maps
    are paired and differ less by chance.

    ``pairs``: half as many are drawn, each followed by its complement (same offset, coins turned over),
    which is a mask of the same distribution where ``p`` is 0.5; ``n_masks`` must be even.
    """
    if pairs:
        if n_masks % 2 or p != 0.5:
            raise ValueError(f"pairs of masks need an even number and p = 0.5, not {n_masks} and {p}")
        half = draw_masks(n_masks // 2, grid, p, size, seed)
        grids = np.repeat(half.grids, 2, axis=0)
        grids[1::2] ^= True
        return MaskBank(size, p, grids, np.repeat(half.offsets, 2, axis=0), half.weights, pairs=True)
    rng = np.random.default_rng(seed)
    cells = [-(-pixels // grid) for pixels in size]
    grids = rng.random((n_masks, grid, grid)) < p
    if cells[0] == cells[1]:
        offsets = rng.integers(0, cells[0], size=(n_masks, 2))
    else:
        offsets = np.stack([rng.integers(0, cell, size=n_masks) for cell in cells], axis=1)
    return MaskBank.of(grids, offsets, p, size)
