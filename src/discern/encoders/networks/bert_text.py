"""Text towers made of a BERT-type encoder, a pooling and a projection.

Eleven published models differ only in these three choices, so that one network serves them all; the
card renames the published tensors to ``transformer.*`` and ``proj.*``.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import transformers

Pooling = Literal["cls", "last", "mean", "layers_1_2_last"]


class BertText(torch.nn.Module):
    """Token ids and mask, int64 (B, L) each -> text embeddings, float32 (B, d)."""

    def __init__(self, transformer: Any, projection: torch.nn.Module, pooling: Pooling, normalise: bool):
        super().__init__()
        self.transformer, self.proj = transformer, projection
        self.pooling, self.normalise = pooling, normalise

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool as the authors do, project."""
        every = self.pooling == "layers_1_2_last"
        result = self.transformer(input_ids=ids, attention_mask=mask, output_hidden_states=every)
        pooled = self._pool(result, mask)
        if self.normalise:  # of the pooled vector, before the projection
            pooled = torch.nn.functional.normalize(pooled, dim=-1)
        embedding: torch.Tensor = self.proj(pooled)
        return embedding

    def _pool(self, result: Any, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "layers_1_2_last":  # over all positions, padding included, as the authors do
            chosen = [result.hidden_states[i] for i in (1, 2, -1)]
            return torch.stack(chosen).mean(dim=0).mean(dim=1)
        hidden: torch.Tensor = result.last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "last":  # the last token that is no padding
            return hidden[torch.arange(len(hidden)), mask.sum(dim=1) - 1]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def build(
    d: int,
    arch: str = "BertModel",
    pooling: Pooling = "cls",
    projection: Literal["linear", "mlp"] = "linear",
    bias: bool = False,
    normalise: bool = False,
    **config: Any,
) -> BertText:
    """A tower without weights: ``arch`` of transformers with ``config``, then a projection to ``d``.

    ``mlp`` is open_clip's: two matrices without bias around a GELU, the middle width between both.
    """
    kind = getattr(transformers, arch)
    transformer = kind(kind.config_class(**config), add_pooling_layer=False)
    width = transformer.config.hidden_size
    if projection == "linear":
        return BertText(transformer, torch.nn.Linear(width, d, bias=bias), pooling, normalise)
    middle = (width + d) // 2
    layers = torch.nn.Sequential(
        torch.nn.Linear(width, middle, bias=False), torch.nn.GELU(), torch.nn.Linear(middle, d, bias=False)
    )
    return BertText(transformer, layers, pooling, normalise)
