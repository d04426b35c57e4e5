"""Encoders exported as TorchScript: program and weights in one file, whatever library made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from discern.encoders.base import Encoder, Request, weight_files
from discern.encoders.torch_base import torch_encoder
from discern.errors import did_you_mean, problem
from discern.model_card import Loader

SUFFIXES = (".pt", ".pth", ".ts", ".torchscript", ".jit")


def load(request: Request) -> Encoder:
    """The program in the card's single file.

    ``output``: empty, its forward on float32 (B, C, H, W) -> (B, d); else the exported method of that
    name. Weights are those of the program: arch, options, keys and prefix do not apply.
    """
    where = f"model '{request.model}'"
    if request.loader != Loader(route="torchscript"):
        raise problem(
            where,
            "loader: a TorchScript file brings its own network and weights",
            repair="leave only `route: torchscript` in the loader",
        )
    files = weight_files(request, SUFFIXES)
    if len(files) > 1:
        names = ", ".join(f.name for f in files)
        raise problem(where, f"several TorchScript files: {names}", repair="name one in `weights`")
    try:
        module: Any = torch.jit.load(files[0], map_location="cpu")
    except Exception as error:  # damaged, or a checkpoint without a program
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise problem(
            str(files[0]),
            f"is no TorchScript program ({reason})",
            repair="export it with torch.jit.save, or choose the route that builds its network",
        ) from error
    return torch_encoder(request, module, _method(request, module))


def _method(request: Request, module: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if not request.output:
        return None
    known = list(module._c._method_names())
    if request.output not in known:
        raise problem(
            f"model '{request.model}'",
            f"output: the program has no method '{request.output}'{did_you_mean(request.output, known)}",
            allowed=known,
        )
    method: Callable[[torch.Tensor], torch.Tensor] = getattr(module, request.output)
    return method
