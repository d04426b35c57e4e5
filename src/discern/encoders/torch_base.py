"""What all torch encoders share: device, precision, memory layout, threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from discern.encoders.base import FunctionEncoder, Request, thread_count
from discern.errors import problem


def torch_encoder(
    request: Request,
    module: torch.nn.Module,
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> FunctionEncoder:
    """Freeze ``module`` in float32 and wrap ``forward`` (default: the module itself) for arrays."""
    torch.set_num_threads(thread_count())
    # On GPUs torch would round convolutions to 10-bit mantissas; features shall not depend on the device.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    device = _device(request)
    layout = _memory_format(module, device)
    module = module.eval().requires_grad_(False).to(device, torch.float32)
    module = module.to(memory_format=layout)
    call = forward or module

    def encode(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pictures = torch.from_numpy(batch).to(device).contiguous(memory_format=layout)
            features: np.ndarray = call(pictures).float().cpu().numpy()
        return features

    return FunctionEncoder(request, encode, _device_name(device))


def _device(request: Request) -> torch.device:
    if request.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _memory_format(module: torch.nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last for convolutional networks on the CPU, where it saves time."""
    # A vision transformer has one convolution, its patch embedding, and gains nothing.
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in module.modules())
    if device.type == "cpu" and convolutions > 2:
        return torch.channels_last
    return torch.contiguous_format
