"""What all torch encoders share: device, precision, memory layout, threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from discern.encoders.base import FunctionEncoder, Request, thread_count
from discern.errors import DiscernError, problem

#: Initialisations that only draw. Others, as trunc_normal_, draw again until the values please them, and
#: would never end if the draw itself were skipped.
DRAWS = {torch.nn.init.uniform_, torch.nn.init.normal_, torch.nn.init.kaiming_uniform_}


class Undrawn(TorchFunctionMode):
    """Most parameters are made without drawing them, which takes longer than reading them from a file."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The tensor as it is where ``func`` would fill it at random; else what ``func`` returns."""
        kwargs = kwargs or {}
        if func in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def building(request: Request) -> Iterator[None]:
    """Building of a network whose parameters are then all read from files, unless the card wants random ones.

    Whatever the library says to wrong ``loader.options`` becomes a DiscernError that names the card.
    """
    try:
        with nullcontext() if request.loader.keys == "random" else Undrawn():
            yield
    except DiscernError:
        raise
    except Exception as error:  # each library has its own exceptions
        reason = f"{type(error).__name__}: {error}"
        raise problem(
            f"model '{request.model}'",
            f"{request.loader.route} cannot build '{request.loader.arch}' with loader.options ({reason})",
            repair="correct loader.arch or loader.options in the model card",
        ) from error


class TorchEncoder(FunctionEncoder):
    """An encoder that can be looked into: ``module`` holds its parameters, ``forward`` takes tensors."""

    module: torch.nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]


def torch_encoder(
    request: Request,
    module: torch.nn.Module,
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> TorchEncoder:
    """Freeze ``module`` in float32 and wrap ``forward`` (default: the module itself) for arrays."""
    torch.set_num_threads(thread_count())
    # On GPUs torch would round convolutions to 10-bit mantissas; features shall not depend on the device.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    device = _device(request)
    layout = _memory_format(module, device)
    for parameter in module.parameters():  # one by one: TorchScript modules know no other way
        parameter.requires_grad_(False)
    module = module.eval().to(device, torch.float32)
    module = module.to(memory_format=layout)
    call = forward or module

    def encode(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pictures = torch.from_numpy(batch).to(device).contiguous(memory_format=layout)
            features = call(pictures)
            if not isinstance(features, torch.Tensor):
                raise problem(
                    f"model '{request.model}'",
                    f"the encoder's output is of type {type(features).__name__}, not a tensor",
                    repair="name another output of this feature in the model card",
                )
            array: np.ndarray = features.float().cpu().numpy()
        return array

    encoder = TorchEncoder(request, encode, _device_name(device))
    encoder.module, encoder.forward = module, call
    return encoder


def _device(request: Request) -> torch.device:
    if request.device == "auto":
        usable = torch.cuda.is_available() and built_for(
            torch.cuda.get_device_capability(), torch.cuda.get_arch_list()
        )
        return torch.device("cuda" if usable else "cpu")
    try:
        device = torch.device(request.device)
    except RuntimeError as error:
        raise problem(
            "device", f"'{request.device}' is no device", allowed=["auto", "cpu", "cuda"]
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise problem(
            "device", f"'{request.device}' is not here", repair="choose auto or cpu, or ask for a GPU"
        )
    return device


def built_for(capability: tuple[int, int], kinds: list[str]) -> bool:
    """Whether a build of PyTorch with code for ``kinds`` (sm_80, compute_90 ...) runs on such a GPU.

    The old releases that some authors' runtimes demand see a newer GPU, and fail at the first call.
    """
    for kind in kinds:
        name, _, number = kind.rpartition("_")
        version = divmod(int("".join(c for c in number if c.isdigit()) or 0), 10)
        same = version[0] == capability[0] and version <= capability
        if (name == "sm" and same) or (name == "compute" and version <= capability):
            return True
    return not any(kind.startswith("sm_") for kind in kinds)  # not of this maker: nothing is known


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _memory_format(module: torch.nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last for convolutional networks on the CPU, where it saves time."""
    # A vision transformer has one convolution, its patch embedding, and gains nothing.
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in module.modules())
    if device.type == "cpu" and convolutions > 2:
        return torch.channels_last
    return torch.contiguous_format
