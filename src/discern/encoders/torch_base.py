"""What all torch encoders share: device, precision, memory layout, threads."""

from __future__ import annotations

import threading
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


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    """An encoder that can be looked into: ``module`` holds its parameters, ``forward`` takes tensors.

    ``forward`` computes as the card says; ``exact`` in float32, not compiled, as ``encode`` by default.
    """

    def __init__(
        self,
        request: Request,
        module: torch.nn.Module,
        call: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
        layout: torch.memory_format,
    ):
        super().__init__(request, self._encode, _device_name(device))
        self.module, self._exact = module, call
        self._torch_device, self._layout = device, layout
        self._dtype = DTYPES[request.precision]
        self._alone = request.compile or _keeps(request, module)
        self._call = _compiled(request, call) if request.compile else call
        self._own = threading.local()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Tensor (B, C, H, W) on the encoder's device -> features (B, d), in the card's precision."""
        with self._rounding():
            return self._call(pictures)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """float32 (B, C, H, W) in any memory layout -> float32 (B, d); raises as every encoder does."""
        return self.checked(self._encode(batch), len(batch))

    def exact(self, batch: np.ndarray) -> np.ndarray:
        """The same in float32 and not compiled, whatever the card says."""
        return self.checked(self._run(batch, self._exact), len(batch))

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """float32, not filled: page-locked for a GPU, channels last where the network computes so."""
        tensor = torch.empty(shape, dtype=torch.float32, pin_memory=self._torch_device.type == "cuda")
        if self._layout == torch.channels_last:
            first, *rest = shape
            rest = [*rest[1:], rest[0]]
            tensor = tensor.view(first, *rest).movedim(-1, 1)
        array: np.ndarray = tensor.numpy()
        return array

    def concurrent(self, workers: int) -> bool:
        """Yes, unless its code may keep a batch's tensors in the network. On the CPU each call is then
        computed by the one thread that makes it.

        Batches side by side wait for nothing; threads inside one operation wait for each other.
        """
        if workers > 1 and self._alone:
            return False
        if self._torch_device.type == "cpu" and workers > 1:
            torch.set_num_threads(1)
        return True

    def _encode(self, batch: np.ndarray) -> np.ndarray:
        return self._run(batch, self.forward)

    def _run(self, batch: np.ndarray, call: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        with torch.inference_mode(), self._stream():
            # From page-locked memory the copy does not wait; .cpu() below does, so the batch may be reused.
            pictures = torch.from_numpy(_plain(batch))
            pictures = pictures.to(self._torch_device, non_blocking=True)
            features = call(pictures.contiguous(memory_format=self._layout))
            if not isinstance(features, torch.Tensor):
                raise problem(
                    f"model '{self._model}'",
                    f"the encoder's output is of type {type(features).__name__}, not a tensor",
                    repair="name another output of this feature in the model card",
                )
            array: np.ndarray = features.float().cpu().numpy()
        return array

    def _rounding(self) -> Any:
        """Matrix products and convolutions in half precision; sums of residuals and norms in float32."""
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._torch_device.type, dtype=self._dtype)

    def _stream(self) -> Any:
        """A queue of its own for every thread: a batch is copied while another is computed."""
        if self._torch_device.type != "cuda":
            return nullcontext()
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._torch_device)
        return torch.cuda.stream(self._own.stream)


def _keeps(request: Request, module: torch.nn.Module) -> bool:
    """Whether a network may keep tensors of one call for its result: users' code, and hooks, can."""
    ours = request.loader.arch.startswith("discern.")
    foreign = request.loader.route == "remote_code" or (request.loader.route == "python" and not ours)
    # A TorchScript module has no such table, and keeps nothing.
    return foreign or any(getattr(m, "_forward_hooks", None) for m in module.modules())


def _plain(batch: np.ndarray) -> np.ndarray:
    """The batch as torch takes it: float32, writeable, no axis backwards; nearly always as it is."""
    batch = np.require(batch, np.float32, ["W"])
    return np.ascontiguousarray(batch) if min(batch.strides) < 0 else batch


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
    layout = _memory_format(module, device, request.precision)
    for parameter in module.parameters():  # one by one: TorchScript modules know no other way
        parameter.requires_grad_(False)
    module = module.eval().to(device, torch.float32)
    module = module.to(memory_format=layout)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.synchronize(device)  # other threads' queues do not wait for these copies
    return TorchEncoder(request, module, forward or module, device, layout)


def _compiled(
    request: Request, call: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[torch.Tensor], torch.Tensor]:
    fast: Callable[[torch.Tensor], torch.Tensor] = torch.compile(call)

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        try:
            return fast(pictures)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise problem(
                f"model '{request.model}'",
                f"torch.compile fails ({reason})",
                repair="install a C++ compiler, or leave `compile: true` out of the model card",
            ) from error

    return forward


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


def _memory_format(module: torch.nn.Module, device: torch.device, precision: str) -> torch.memory_format:
    """Channels last for convolutional networks where it saves time: on CPUs, on GPUs in half precision.

    In float32 without TF32 a GPU's convolutions are written for channels first.
    """
    # A vision transformer has one convolution, its patch embedding, and gains nothing.
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in module.modules())
    if convolutions > 2 and (device.type == "cpu" or precision != "float32"):
        return torch.channels_last
    return torch.contiguous_format
