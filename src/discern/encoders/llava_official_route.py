"""LLaVA-type checkpoints through the authors' own package: their loader, their transform, their tower.

The checkpoint's folder is opened by ``load_pretrained_model``; as its configuration names the vision
tower by a hub repository, that repository is a companion of the weights in the folder ``vision_tower``.
The whole language model is read, because the authors' loader does so, and dropped afterwards.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from discern.encoders.base import Encoder, Request, only
from discern.encoders.runtime import checkout, offline, tensors_only, verify
from discern.encoders.torch_base import torch_encoder
from discern.errors import problem

offline()

from llava.mm_utils import process_images  # noqa: E402
from llava.model.builder import load_pretrained_model  # noqa: E402

TOWER = "vision_tower"  # folder of the companion
PROJECTOR = "model.mm_projector."


def load(request: Request) -> Encoder:
    """``loader.arch`` is the model name by which the authors' loader chooses the class.

    It must contain ``llava``, and ``mistral`` for a model of that kind. ``output``: ``tower_patch_mean``
    (the tower's patches, averaged) or ``projector_patch_mean`` (the authors' ``encode_images``,
    averaged). ``options: {tower: stock}`` takes the companion even if the checkpoint has a trained one.
    """
    output = only(request, "tower_patch_mean", "projector_patch_mean")
    where = f"model '{request.model}'"
    with tempfile.TemporaryDirectory(prefix="discern-") as scratch:
        folder = Path(scratch)
        checkout(request, folder, {"config.json": lambda content: _configured(request, content, folder)})
        with tensors_only(request):
            # On the CPU and with its default device map, it leaves the tower in float32.
            _, model, processor, _ = load_pretrained_model(
                str(folder), None, request.loader.arch, device="cpu"
            )
    inner, tower = model.get_model(), model.get_vision_tower()
    own = {n: f for n, f in request.weights.items() if not n.startswith(f"{TOWER}/")}
    companion = {n: f for n, f in request.weights.items() if n.startswith(f"{TOWER}/")}
    verify(tower.vision_tower, companion, "", where, torch.float32)
    verify(inner.mm_projector, own, PROJECTOR, where, torch.float16)
    _drop_language_model(model)

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        tokens = tower(pictures) if output == "tower_patch_mean" else model.encode_images(pictures)
        return tokens.mean(dim=1)

    def transform(picture: Image.Image) -> np.ndarray:
        pixels = np.asarray(process_images([picture], processor, model.config)[0])
        wanted = (3, *request.preprocess.input_size)
        if pixels.shape != wanted:
            raise problem(
                where,
                f"the authors' transform gives shape {pixels.shape}, the card {wanted}",
                repair="correct preprocess in the model card",
            )
        return pixels

    encoder = torch_encoder(request, torch.nn.ModuleList([tower, inner.mm_projector]), forward)
    encoder.transform = transform
    return encoder


def _configured(request: Request, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The checkpoint's configuration with the local tower instead of the hub's."""
    where = f"model '{request.model}'"
    if f"{TOWER}/config.json" not in request.weights:
        raise problem(
            where,
            f"its configuration names the tower '{config.get('mm_vision_tower')}', which was not fetched",
            repair=f"name that repository under weights.companions.{TOWER} in the model card",
        )
    if config.get("unfreeze_mm_vision_tower") and request.loader.options.get("tower") != "stock":
        raise problem(
            where,
            "this checkpoint brings a trained vision tower of its own, this route takes the companion's",
            repair="set loader.options.tower to 'stock' in the model card if that is meant",
        )
    return config | {"mm_vision_tower": str(folder / TOWER), "unfreeze_mm_vision_tower": False}


def _drop_language_model(model: Any) -> None:
    """Give its memory back; neither tower nor projector needs it."""
    inner = model.get_model()
    inner.layers = torch.nn.ModuleList()
    inner.embed_tokens = model.lm_head = torch.nn.Identity()
