"""Encoders published as ONNX graphs; any inner tensor may serve as the feature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from discern.encoders.base import Encoder, FunctionEncoder, Request, thread_count, weight_files
from discern.errors import DiscernError, did_you_mean, problem


def load(request: Request) -> Encoder:
    """The graph in the card's ``.onnx`` file; feature: the tensor ``output``.

    A feature map (four axes) is averaged over height and width. The layout NCHW or NHWC is read from
    the shape of the graph's input. Runs on the CPU.
    """
    file = weight_files(request, (".onnx",))[0]
    try:
        model = onnx.load(file)
    except Exception as error:  # protobuf's own exception type depends on its back end
        raise _unusable(file, error) from error
    output = _add_output(model, request)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        entry = session.get_inputs()[0]
    except Exception as error:  # an operator that nobody knows, or a graph that does not fit together
        raise _unusable(file, error) from error
    channels_last = _channels_last(entry.shape, request)
    step = entry.shape[0] if isinstance(entry.shape[0], int) and entry.shape[0] > 0 else None

    def encode(batch: np.ndarray) -> np.ndarray:
        if channels_last:
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        parts = [batch] if step is None else [batch[i : i + step] for i in range(0, len(batch), step)]
        features = np.concatenate([session.run([output], {entry.name: part})[0] for part in parts])
        if features.ndim == 4:
            features = features.mean(axis=(1, 2) if channels_last else (2, 3))
        return features

    return FunctionEncoder(request, encode, "cpu")


def _unusable(file: Path, error: Exception) -> DiscernError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return problem(str(file), f"is no ONNX graph ({reason[:300]})", repair=f"fetch it again: rm {file}")


def _add_output(model: Any, request: Request) -> str:
    """Make ``output`` an output of the graph; empty: its first output."""
    present = [o.name for o in model.graph.output]
    if not present:
        raise problem(f"model '{request.model}'", "the graph has no output")
    wanted = request.output or present[0]
    if wanted not in present:
        inner = [name for node in model.graph.node for name in node.output]
        if wanted not in inner:
            raise problem(
                f"model '{request.model}'",
                f"the graph has no tensor '{wanted}'{did_you_mean(wanted, inner)}",
                allowed=["any output of a node", *inner[-3:]],
            )
        model.graph.output.append(onnx.ValueInfoProto(name=wanted))
    return wanted


def _channels_last(shape: list[Any], request: Request) -> bool:
    colours = (1, 3)
    if len(shape) == 4 and shape[1] in colours:
        return False
    if len(shape) == 4 and shape[3] in colours:
        return True
    raise problem(f"model '{request.model}'", f"the graph's input of shape {shape} is no batch of pictures")
