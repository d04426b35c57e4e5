"""What is known of RISE's masks without sampling, and sums over a bank without making a mask.

A mask minus its mean is c = D_y[o_y] (g - p) D_x[o_x].T: coins g, offsets o, and upsampling weights D whose
rows sum to one. Hence E[mask] = p for every offset, and as coins and offsets are independent,

    Cov(c[y, x], c[y', x']) = p (1 - p) C_y[y, y'] C_x[x, x'],   C = mean over offsets of D D.T,

exactly, the random shift included. The eigenvectors of C_y and C_x with the largest eigenvalues give
the pooled mask that keeps most of the masks' variance, with uncorrelated entries of known variance
(its Karhunen-Loeve coordinates).

Sums over masks group by offset: all masks of one offset share D, so their weighted coins are added
first and upsampled once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from discern.analysis.rise.masks import MaskBank


def _stacked(upsampled: np.ndarray) -> np.ndarray:
    """Weights (cells, pixels, s) -> (pixels, cells * s), float64."""
    cells, pixels, points = upsampled.shape
    return upsampled.transpose(1, 0, 2).reshape(pixels, cells * points).astype(np.float64)


def _squared(upsampled: np.ndarray) -> np.ndarray:
    """Weights (cells, pixels, s) -> those of the products of neighbours, (cells, pixels, 2 s - 1).

    A pixel lies between two grid points at most, so (sum_a w_a h_a)^2 has the terms w_a^2 h_a^2 and
    2 w_a w_(a+1) h_a h_(a+1).
    """
    weights = upsampled.astype(np.float64)
    return np.concatenate([weights**2, 2 * weights[..., :-1] * weights[..., 1:]], axis=2)


def _products(h: np.ndarray) -> np.ndarray:
    """Grids (n, s, s) -> products of neighbouring entries (n, 2 s - 1, 2 s - 1), as ``_squared`` wants."""
    beside = h[:, :, :-1] * h[:, :, 1:]
    below = h[:, :-1] * h[:, 1:]
    across = (h[:, :-1, :-1] * h[:, 1:, 1:] + h[:, :-1, 1:] * h[:, 1:, :-1]) / 2
    return np.block([[h**2, beside], [below, across]])


class MaskSums:
    """Sums over the masks of a bank with any weights, for every pixel.

    Costs a few small matrix products per sum, whatever the number of masks.
    """

    def __init__(self, bank: MaskBank):
        self._bank = bank
        self._centred = bank.grids - bank.p
        self._plain = [_stacked(weights) for weights in bank.upsampled]
        self._square = [_stacked(_squared(weights)) for weights in bank.upsampled]

    def sum(self, weights: np.ndarray) -> np.ndarray:
        """sum_i weights[i, j] * c_i for every j: (N, k) -> float64 (k, H, W)."""
        return self._upsampled(self._centred, weights, self._plain)

    def sum_of_squares(self, weights: np.ndarray) -> np.ndarray:
        """sum_i weights[i, j] * c_i**2 for every j: (N, k) -> float64 (k, H, W)."""
        return self._upsampled(_products(self._centred), weights, self._square)

    def _upsampled(self, grids: np.ndarray, weights: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
        rows, columns = grids.shape[1:]
        cells_down, cells_across = self._bank.cells
        offset = self._bank.offsets[:, 0] * cells_across + self._bank.offsets[:, 1]
        place = (offset[:, None] * (rows * columns) + np.arange(rows * columns)).ravel()
        size = cells_down * cells_across * rows * columns
        maps = []
        for column in weights.T:
            added = np.bincount(place, (column[:, None, None] * grids).ravel(), size)
            by_axis = added.reshape(cells_down, cells_across, rows, columns).transpose(0, 2, 1, 3)
            flat = by_axis.reshape(cells_down * rows, cells_across * columns)
            maps.append(matrices[0] @ flat @ matrices[1].T)
        return np.stack(maps)


@dataclass(frozen=True)
class Axis:
    """Karhunen-Loeve basis of the masks along one side of the picture.

    vectors: (pixels, r) orthonormal, values: (r,) descending, both of C; projected: (cells, r, s), which
    takes the coins at an offset to coordinates.
    """

    vectors: np.ndarray
    values: np.ndarray
    projected: np.ndarray

    @classmethod
    def of(cls, upsampled: np.ndarray) -> Axis:
        """From the weights at every offset (cells, pixels, s); keeps 2 s coordinates.

        Twice the grid: halves of cells, below which masks hold next to nothing.
        """
        cells, pixels, points = upsampled.shape
        stacked = _stacked(upsampled)
        values, vectors = np.linalg.eigh(stacked @ stacked.T / cells)
        kept = min(2 * points, pixels)
        vectors = vectors[:, ::-1][:, :kept]
        projected = vectors.T @ upsampled.astype(np.float64)
        return cls(vectors, np.maximum(values[::-1][:kept], 0.0), projected)


class PooledMasks:
    """Masks in few uncorrelated coordinates of known mean (zero), variance and covariance with a pixel."""

    def __init__(self, bank: MaskBank):
        self._down, self._across = (Axis.of(weights) for weights in bank.upsampled)
        self._spread = bank.p * (1 - bank.p)

    @property
    def variance(self) -> np.ndarray:
        """Of every coordinate, float64 (r,)."""
        return self._spread * np.outer(self._down.values, self._across.values).ravel()

    def coordinates(self, bank: MaskBank) -> np.ndarray:
        """Of every mask of a bank of the same kind, float64 (N, r)."""
        down = self._down.projected[bank.offsets[:, 0]]
        across = self._across.projected[bank.offsets[:, 1]]
        return (down @ (bank.grids - bank.p) @ across.transpose(0, 2, 1)).reshape(len(bank), -1)

    def covariance(self, coefficients: np.ndarray) -> np.ndarray:
        """Of ``coordinates @ coefficients`` with every pixel of the mask: (r, k) -> (k, H, W).

        Exact: a coordinate's covariance with the mask is its variance times its eigenvector.
        """
        scaled = (self.variance[:, None] * coefficients).T
        grids = scaled.reshape(-1, len(self._down.values), len(self._across.values))
        return self._down.vectors @ grids @ self._across.vectors.T
