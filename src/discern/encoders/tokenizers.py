"""From texts to token ids as the authors of each model do it.

Tokenizer files are fetched beside the weights and read from disk; nothing asks a hub.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from discern.errors import problem
from discern.model_card import Tokenizer

#: Texts -> token ids and mask of what is no padding, int64 (B, L) each.
Tokenize = Callable[[Sequence[str]], tuple[torch.Tensor, torch.Tensor]]


def load_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> Tokenize:
    """The tokenizer of a card; ``folder`` holds its files. Longer texts are cut at ``context_length``."""
    kinds = {"clip_bpe": _clip_bpe, "huggingface": _huggingface, "conch": _conch}
    encode = kinds[tokenizer.kind](tokenizer, folder, context_length)

    def tokenize(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return encode([_cased(text, tokenizer.case) for text in texts])

    return tokenize


def _cased(text: str, case: str) -> str:
    if case == "canonical":
        return " ".join(text.translate(str.maketrans("", "", string.punctuation)).lower().split())
    if case == "wordpunct":
        return " ".join(re.findall(r"\w+|[^\w\s]+", text.lower()))
    return text


def _clip_bpe(tokenizer: Tokenizer, folder: Path, context_length: int) -> Tokenize:
    import open_clip

    bpe = open_clip.SimpleTokenizer(context_length=context_length)

    def encode(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = bpe(list(texts), context_length)
        # The end of text is the highest id; what follows is padding.
        ends = ids.argmax(dim=1, keepdim=True)
        return ids, (torch.arange(ids.shape[1])[None] <= ends).long()

    return encode


def _huggingface(tokenizer: Tokenizer, folder: Path, context_length: int) -> Tokenize:
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise problem(
            str(folder),
            f"holds no tokenizer that transformers can read ({str(error).splitlines()[0]})",
            repair="fetch the text side of this model: workflow/scripts/fetch_weights.py --text",
        ) from error

    def encode(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        padding = True if tokenizer.padding == "longest" else "max_length"
        found = loaded(
            list(texts), padding=padding, truncation=True, max_length=context_length, return_tensors="pt"
        )
        ids = found["input_ids"]
        return ids, found.get("attention_mask", torch.ones_like(ids))

    return encode


def _conch(tokenizer: Tokenizer, folder: Path, context_length: int) -> Tokenize:
    """CONCH's byte-level BPE; the tower itself appends its class embedding to the ids."""
    from tokenizers import Tokenizer as Fast

    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        raise problem(str(folder), f"must hold one tokenizer file (.json), found {len(files)}")
    fast = Fast.from_file(str(files[0]))
    pad = fast.token_to_id("<pad>")
    fast.enable_truncation(context_length)
    fast.enable_padding(length=context_length, pad_id=pad, pad_token="<pad>")  # noqa: S106 (no secret)

    def encode(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.tensor([found.ids for found in fast.encode_batch(list(texts))])
        return ids, (ids != pad).long()

    return encode
