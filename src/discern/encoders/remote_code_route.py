"""Models whose architecture is code in their own repository, run from the fetched revision alone.

Only for cards with ``remote_code: true`` in studies with ``allow_remote_code: true``. Code and weights
are the files of the pinned revision on this disk; nothing is asked of the hub.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from discern.encoders.base import Encoder, Request
from discern.encoders.checkpoint import some
from discern.encoders.runtime import checkout, offline, tensors_only
from discern.encoders.torch_base import torch_encoder
from discern.errors import did_you_mean, problem

offline()
# transformers copies the code before it imports it; elsewhere two jobs would write the same files.
SCRATCH = Path(tempfile.mkdtemp(prefix="discern-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
os.environ["HF_MODULES_CACHE"] = str(SCRATCH / "modules")

import transformers  # noqa: E402


def load(request: Request) -> Encoder:
    """``loader.arch`` is transformers' class for the repository (``AutoModel``).

    ``output`` is a method of the model, called on pictures, float32 (B, C, H, W); of several results
    the first (B, d) is the feature. The transform is the repository's own processor.
    """
    where = f"model '{request.model}'"
    auto = getattr(transformers, request.loader.arch, None)
    if auto is None:
        raise problem(
            where,
            f"transformers {transformers.__version__} has no '{request.loader.arch}'",
            allowed=["AutoModel"],
        )
    folder = Path(tempfile.mkdtemp(prefix="snapshot-", dir=SCRATCH))
    configs = [
        n for n in request.weights if Path(n).name in ("preprocessor_config.json", "processor_config.json")
    ]
    checkout(request, folder, dict.fromkeys([*configs, "config.json"], lambda c: _local(c, folder, where)))
    with tensors_only(request):
        model, told = auto.from_pretrained(
            folder, trust_remote_code=True, local_files_only=True, output_loading_info=True,
            torch_dtype=torch.float32,
        )  # fmt: skip
        processor = transformers.AutoProcessor.from_pretrained(
            folder, trust_remote_code=True, local_files_only=True
        )
    _refuse_gaps(told, where)
    encode = getattr(model, request.output, None)
    if not callable(encode):
        known = [n for n in vars(type(model)) if not n.startswith("_")]
        raise problem(
            where, f"the model has no method '{request.output}'{did_you_mean(request.output, known)}"
        )
    pixels = getattr(processor, "image_processor", processor)

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        result = encode(pictures)
        return result[0] if isinstance(result, (tuple, list)) else result

    def transform(picture: Image.Image) -> np.ndarray:
        return np.asarray(pixels(images=picture, return_tensors="np")["pixel_values"][0], dtype=np.float32)

    encoder = torch_encoder(request, model, forward)
    encoder.transform = transform
    return encoder


def _local(config: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """The configuration with all its code taken from this folder; code that is not here is refused."""
    mapped = dict(config.get("auto_map", {}))
    for kind, places in mapped.items():
        every = [places] if isinstance(places, str) else list(places)
        # "other/repository--module.Class" would be fetched, at no particular revision.
        local = [place and place.rpartition("--")[2] for place in every]
        for place in filter(None, local):
            file = f"{place.rpartition('.')[0].replace('.', '/')}.py"
            if not (folder / file).is_file():
                raise problem(
                    where,
                    f"its configuration names code in {file}, which is not among the fetched files",
                    repair="list it under weights.files in the model card, and fetch the weights again",
                )
        mapped[kind] = local[0] if isinstance(places, str) else local
    return config | {"auto_map": mapped} if mapped else config


def _refuse_gaps(told: dict[str, Any], where: str) -> None:
    """DiscernError if tensors were missing, not wanted or of another shape: transformers only warns."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := [str(n) for n in told.get(kind) or [] if not str(n).endswith("position_ids")]:
            raise problem(
                where,
                f"checkpoint and code do not fit: {kind.replace('_', ' ')}: {some(names)}",
                repair="fetch the weights again; code and weights must be of one revision",
            )
