"""What every encoder offers, whichever library it comes from, and the one door to them all."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from discern.encoders.record import CONVERTED
from discern.errors import DiscernError, problem
from discern.model_card import Loader, Preprocess, VolumePreprocess

if TYPE_CHECKING:
    from PIL import Image


class Encoder(Protocol):
    """A frozen image encoder."""

    d: int  # length of the feature
    input_size: tuple[int, ...]  # height and width of the input in pixels; of volumes, voxels by axis
    device: str  # where it computes, in words

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Preprocessed pictures, float32 (B, C, H, W), or volumes (B, 1, D, H, W) -> features (B, d)."""
        ...

    def exact(self, batch: np.ndarray) -> np.ndarray:
        """The same in float32 and not compiled, whatever the card says."""
        ...

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array, float32, not filled, in the memory and layout that ``encode`` takes fastest."""
        ...

    def concurrent(self, workers: int) -> bool:
        """Whether ``encode`` may now run in that many threads at once, each on a core of its own."""
        ...


@dataclass(frozen=True)
class Request:
    """What a route needs to build one encoder."""

    model: str
    loader: Loader
    preprocess: Preprocess | VolumePreprocess
    output: str  # the feature's name in its route; empty: the encoder's own output
    d: int
    weights: dict[str, Path]
    device: str
    precision: str = "float32"  # of the network's arithmetic; its parameters stay float32
    compile: bool = False


class FunctionEncoder:
    """An encoder made of one function, whose output is checked against the card."""

    def __init__(self, request: Request, function: Callable[[np.ndarray], np.ndarray], device: str):
        self.d = request.d
        self.input_size: tuple[int, ...] = request.preprocess.input_size
        self.device = device
        #: The authors' own transform of an RGB picture, where a route has one; else the card's is used.
        self.transform: Callable[[Image.Image], np.ndarray] | None = None
        self._model, self._function = request.model, function

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """float32 (B, C, H, W) -> float32 (B, d); DiscernError if the encoder gives another shape."""
        return self.checked(self._function(np.ascontiguousarray(batch, dtype=np.float32)), len(batch))

    def checked(self, features: np.ndarray, count: int) -> np.ndarray:
        """The features as they are, float32 (count, d); DiscernError if they have another shape."""
        if features.shape != (count, self.d):
            raise problem(
                f"model '{self._model}'",
                f"the encoder's output has shape {features.shape}, the card says ({count}, {self.d})",
                repair="correct d or output of this feature in the model card",
            )
        return np.ascontiguousarray(features, dtype=np.float32)

    def exact(self, batch: np.ndarray) -> np.ndarray:
        """The same in float32 and not compiled: here always."""
        return self.encode(batch)

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array, float32, not filled, in the memory and layout that ``encode`` takes fastest."""
        return np.empty(shape, np.float32)

    def concurrent(self, workers: int) -> bool:
        """Whether ``encode`` may now run in that many threads at once; here it has threads of its own."""
        return workers == 1


def transform_of(spec: dict[str, Any]) -> Preprocess | VolumePreprocess:
    """The transform in ``ModelCard.extraction_spec()``: of volumes where the model takes volumes."""
    if spec.get("volume") is not None:
        return VolumePreprocess.model_validate(spec["volume"])
    return Preprocess.model_validate(spec["preprocess"])


def load_encoder(spec: dict[str, Any], weights: dict[str, Path], device: str = "auto") -> Encoder:
    """Build the encoder of ``ModelCard.extraction_spec()`` from its weight files (``read_weights``).

    ``device``: auto, cpu, cuda or cuda:N. Each route is a module, so that only one library is imported.
    """
    request = Request(
        model=spec["name"],
        loader=Loader.model_validate(spec["loader"]),
        preprocess=transform_of(spec),
        output=spec["feature"].get("output", ""),
        d=spec["feature"]["d"],
        weights=weights,
        device=device,
        precision=spec.get("precision", "float32"),
        compile=spec.get("compile", False),
    )
    route = request.loader.route
    try:
        module = importlib.import_module(f"discern.encoders.{route}_route")
    except ModuleNotFoundError as error:
        raise problem(
            f"model '{request.model}'",
            f"route '{route}' needs the library '{error.name}', which this environment lacks",
            repair="name an environment that has it in the card's field `environment`",
        ) from error
    encoder: Encoder = module.load(request)
    return encoder


def weight_files(request: Request, suffixes: tuple[str, ...]) -> list[Path]:
    """The fetched files with one of these suffixes, at least one, sorted by name.

    Of a file that was converted (``discern convert``) the converted one stands for it.
    """
    names = [n for n in sorted(request.weights) if n + CONVERTED not in request.weights]
    files = [request.weights[name] for name in names]
    found = [f for f in files if f.suffix in suffixes]
    if not found:
        raise problem(
            f"model '{request.model}'",
            f"no weight file among: {', '.join(f.name for f in files) or 'nothing'}",
            allowed=suffixes,
        )
    return found


def only(request: Request, *outputs: str) -> str:
    """The wanted output if it is one of ``outputs``, else DiscernError naming them."""
    if request.output not in outputs:
        raise problem(
            f"model '{request.model}'",
            f"output '{request.output}' is unknown to route '{request.loader.route}'",
            allowed=[o or "'' (the encoder's own output)" for o in outputs],
        )
    return request.output


def thread_count() -> int:
    """Threads that this job may use: OMP_NUM_THREADS, or one."""
    try:
        return max(1, int(os.environ.get("OMP_NUM_THREADS", "1")))
    except ValueError as error:
        raise DiscernError(
            f"OMP_NUM_THREADS: found '{os.environ['OMP_NUM_THREADS']}', must be a whole number"
        ) from error
