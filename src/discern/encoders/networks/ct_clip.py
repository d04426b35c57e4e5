"""CT-CLIP's image encoder: slabs of chest CT as tokens, attention within and then across the slabs,
quantisation to the nearest of 8192 code vectors, and one wide projection.

Hamamci et al. (2024), "Developing generalist foundation models from a multimodal dataset for 3D computed
tomography". Names of the state dict are the published ones, those that are loaded and never used
included, so that a checkpoint of another network is refused; only the decoder's are left out. Three habits
of the authors' code change the features and are kept: keys and values are made from tokens before the
layer norm; the second transformer's position convolution reads its tokens in the order (rows, columns,
slabs) as if it were (slabs, rows, columns); and the code vectors go on as they are stored, not normalised.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Tokens compared with the codebook at a time: all at once would take 450 MB.
QUANTISED_AT_ONCE = 2048

Grid = tuple[int, int, int, int]  # batch, slabs, rows, columns


def build(
    width: int = 512,
    codes: int = 8192,
    shape: tuple[int, int, int] = (240, 480, 480),
    patch: tuple[int, int, int] = (10, 20, 20),
    depth: int = 4,
    heads: int = 8,
    head_width: int = 32,
    latent: int | None = 512,
) -> nn.Module:
    """The network for volumes of ``shape`` voxels; ``latent`` None leaves the projection out."""
    return CtClip(
        VisualTransformer(width, codes, patch, depth, heads, head_width),
        [n // p for n, p in zip(shape[1:], patch[1:], strict=True)],
        width,
        latent,
    )


class CtClip(nn.Module):
    """Volumes, float32 (B, 1, slices, rows, columns) in -1 to 1 -> visual latents, float32 (B, latent)."""

    def __init__(self, tokens: VisualTransformer, grid: list[int], width: int, latent: int | None):
        super().__init__()
        self.visual_transformer = tokens
        if latent is not None:
            self.to_visual_latent = nn.Linear(grid[0] * grid[1] * width, latent, bias=False)

    def forward(self, volumes: Tensor) -> Tensor:
        """Code vectors averaged over the slabs, flattened and projected; not normalised."""
        tokens: Tensor = self.visual_transformer(volumes)
        projected: Tensor = self.to_visual_latent(tokens.mean(dim=1).flatten(1))
        return projected

    def token_mean(self, volumes: Tensor) -> Tensor:
        """(B, 1, slices, rows, columns) -> (B, width): the mean of all code vectors."""
        tokens: Tensor = self.visual_transformer(volumes)
        return tokens.mean(dim=(1, 2, 3))


class VisualTransformer(nn.Module):
    """(B, 1, slices, rows, columns) -> code vectors (B, slabs, rows, columns, width)."""

    def __init__(
        self, width: int, codes: int, patch: tuple[int, int, int], depth: int, heads: int, head_width: int
    ):
        super().__init__()
        self.patch = patch
        self.to_patch_emb = _embedding(patch[0] * patch[1] * patch[2], width)
        self.to_patch_emb_first_frame = _embedding(patch[1] * patch[2], width)  # published, unused
        self.spatial_rel_pos_bias = PositionBias(width, heads)
        self.enc_spatial_transformer = Transformer(width, depth, heads, head_width)
        self.enc_temporal_transformer = Transformer(width, depth, heads, head_width)
        self.vq = Quantiser(width, codes)

    def forward(self, volumes: Tensor) -> Tensor:
        """See the class."""
        x = self._patches(volumes)
        for layer in self.to_patch_emb.values():
            x = layer(x)
        b, t, h, w, d = x.shape
        bias = self.spatial_rel_pos_bias(h, w)
        x = self.enc_spatial_transformer(x.reshape(b * t, h * w, d), (b, t, h, w), bias)
        x = x.reshape(b, t, h, w, d).permute(0, 2, 3, 1, 4).reshape(b * h * w, t, d)
        x = self.enc_temporal_transformer(x, (b, t, h, w), None)
        x = x.reshape(b, h, w, t, d).permute(0, 3, 1, 2, 4)
        codes: Tensor = self.vq(x.reshape(-1, d))
        return codes.reshape(b, t, h, w, d)

    def _patches(self, volumes: Tensor) -> Tensor:
        (b, _, *shape), (pt, ph, pw) = volumes.shape, self.patch
        t, h, w = shape[0] // pt, shape[1] // ph, shape[2] // pw
        x = volumes.reshape(b, t, pt, h, ph, w, pw).permute(0, 1, 3, 5, 2, 4, 6)
        return x.reshape(b, t, h, w, pt * ph * pw)


def _embedding(voxels: int, width: int) -> nn.ModuleDict:
    # Index 0 is the rearrangement in the published names.
    return nn.ModuleDict({"1": nn.LayerNorm(voxels), "2": nn.Linear(voxels, width), "3": nn.LayerNorm(width)})


class PositionBias(nn.Module):
    """Attention bias of a small network on logarithmic row and column distances (Swin v2)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        first = nn.Sequential(nn.Linear(2, width), nn.LeakyReLU(0.1))
        second = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.1))
        self.net = nn.Sequential(first, second, nn.Linear(width, heads))

    def forward(self, rows: int, columns: int) -> Tensor:
        """Bias (heads, rows * columns, rows * columns) of every query and key."""
        device = next(self.parameters()).device
        # Only (2 rows - 1) x (2 columns - 1) distances differ; the network sees each once.
        vertical = torch.arange(1 - rows, rows, device=device, dtype=torch.float32)
        horizontal = torch.arange(1 - columns, columns, device=device, dtype=torch.float32)
        distance = torch.stack(torch.meshgrid(vertical, horizontal, indexing="ij"), dim=-1)
        bias: Tensor = self.net(distance.sign() * distance.abs().log1p())
        row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
        down = (row[:, None] - row[None, :] + rows - 1)[:, None, :, None]
        right = (column[:, None] - column[None, :] + columns - 1)[None, :, None, :]
        every = bias[down, right]  # rows, columns, rows, columns, heads
        return every.reshape(rows * columns, rows * columns, -1).permute(2, 0, 1)


class Transformer(nn.Module):
    """Layers of position convolution, attention and gated feed-forward, each added to its input."""

    def __init__(self, width: int, depth: int, heads: int, head_width: int):
        super().__init__()
        # In the published names 2 is cross-attention, which this encoder does not have.
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "0": PositionConvolution(width),
                    "1": Attention(width, heads, head_width),
                    "3": FeedForward(width),
                }
            )
            for _ in range(depth)
        )
        self.norm_out = Norm(width)

    def forward(self, x: Tensor, grid: Grid, bias: Tensor | None) -> Tensor:
        """(sequences, tokens, width) -> the same shape."""
        for layer in self.layers:
            x = layer["0"](x, grid) + x
            x = layer["1"](x, bias) + x
            x = layer["3"](x) + x
        normed: Tensor = self.norm_out(x)
        return normed


class PositionConvolution(nn.Module):
    """Depthwise 3 x 3 x 3 convolution over the tokens' grid that sees no later slab."""

    def __init__(self, width: int):
        super().__init__()
        self.dsconv = nn.Conv3d(width, width, 3, groups=width)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(sequences, tokens, width), taken in memory order as ``grid`` -> the same shape."""
        cells = x.reshape(*grid, -1).permute(0, 4, 1, 2, 3)
        mixed: Tensor = self.dsconv(F.pad(cells, (1, 1, 1, 1, 2, 0)))
        return mixed.permute(0, 2, 3, 4, 1).reshape(x.shape)


class Norm(nn.Module):
    """Layer norm with a stored, untrained shift."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.register_buffer("beta", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape (..., width)."""
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta)


class Attention(nn.Module):
    """Attention by cosine similarity with a learnt scale per channel of a head."""

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads = heads
        self.norm = Norm(width)
        self.context_norm = Norm(width)  # published, unused: of cross-attention, as the empty null_kv
        self.null_kv = nn.Parameter(torch.empty(heads, 0, head_width))
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.q_scale = nn.Parameter(torch.ones(head_width))
        self.k_scale = nn.Parameter(torch.ones(head_width))
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """(sequences, tokens, width) -> the same shape."""
        q = self.to_q(self.norm(x))
        k, v = self.to_kv(x).chunk(2, dim=-1)  # of x itself, as published
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        q = F.normalize(q, dim=-1) * self.q_scale
        k = F.normalize(k, dim=-1) * self.k_scale
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=8.0)
        result: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return result


class FeedForward(nn.Module):
    """Layer norm and a gated network (GEGLU) of 8/3 of the width."""

    def __init__(self, width: int):
        super().__init__()
        inside = int(4 * (2 / 3) * width)
        self.add_module("0", nn.LayerNorm(width))
        self.add_module("1", nn.Linear(width, 2 * inside, bias=False))
        self.add_module("4", nn.Linear(inside, width, bias=False))  # 2 and 3 have no weights

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        norm, widen, narrow = self.children()
        value, gate = widen(norm(x)).chunk(2, dim=-1)
        result: Tensor = narrow(F.gelu(gate) * value)
        return result


class Quantiser(nn.Module):
    """Replaces a vector by the code vector of the largest cosine similarity."""

    def __init__(self, width: int, codes: int):
        super().__init__()
        self._codebook = nn.Module()
        self._codebook.register_buffer("initted", torch.ones(1))  # this and the next: for training
        self._codebook.register_buffer("cluster_size", torch.zeros(1, codes))
        self._codebook.register_buffer("embed", torch.zeros(1, codes, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) -> (N, width)."""
        codes: Tensor = self._codebook.embed[0]
        directions = F.normalize(codes, dim=-1).T
        nearest = [
            (F.normalize(part, dim=-1) @ directions).argmax(dim=-1) for part in x.split(QUANTISED_AT_ONCE)
        ]
        return codes[torch.cat(nearest)]
