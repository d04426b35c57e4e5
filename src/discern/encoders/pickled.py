"""What lies in a pickled checkpoint: its tensors, without running anything else that is pickled in it.

Run as a script this is the worker of ``discern convert``: it takes files whose pickle names more than
tensors (configuration, optimiser, trainer objects) and writes their tensors as safetensors. It needs
torch and the standard library only, so that it runs isolated (``python -I``) in any environment.
"""

from __future__ import annotations

import inspect
import json
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

State = dict[str, torch.Tensor]

WRAPPERS = ("state_dict", "model", "module")  # under which training scripts file their weights

#: safetensors' names of element types.
CODES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def unwrap(content: object, wanted: tuple[str, ...]) -> State:
    """Every tensor of a loaded checkpoint by its published name.

    Wrappers of training scripts come off, nested mappings become dotted names, and the ``module.`` of
    a data-parallel wrapper goes unless a ``wanted`` prefix names it. TypeError if it is no mapping.
    """
    wrapper: str | None = ""
    while wrapper is not None:
        if not isinstance(content, dict):
            raise TypeError(f"found {type(content).__name__}, not a mapping of tensors")
        inner = content
        wrapper = next((w for w in WRAPPERS if isinstance(inner.get(w), dict)), None)
        content = content[wrapper] if wrapper is not None else content
    state = _flat(inner)
    wrapped = state and all(k.startswith("module.") for k in state)
    if wrapped and not any(p.startswith("module.") for p in wanted):
        state = {k.removeprefix("module."): v for k, v in state.items()}
    return state


def _flat(content: dict[Any, Any]) -> State:
    state = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if state:
        return state
    nested = {str(k): _flat(v) for k, v in content.items() if isinstance(v, dict)}
    return {f"{head}.{k}": v for head, part in nested.items() for k, v in part.items()}


def is_zip(file: Path) -> bool:
    """Whether torch wrote this file in its present format (since 1.6)."""
    with open(file, "rb") as handle:
        return handle.read(4) == b"PK\x03\x04"


def mapping(file: Path) -> dict[str, bool]:
    """The argument of torch.load that maps a file into memory, where format and version have it."""
    known = "mmap" in inspect.signature(torch.load).parameters  # since torch 2.1
    return {"mmap": True} if known and is_zip(file) else {}


class Inert:
    """Stands for every object of a pickle that is no tensor: takes anything, does nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        """An instance, whatever the arguments."""
        return object.__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __call__(self, *args: object, **kwargs: object) -> Inert:
        """Another one."""
        return Inert()

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Ignored, as everything."""

    extend = add = update = append


def _known(module: str, name: str) -> Any:
    """What a pickle may really get: the builders of tensors and the types in them. None: nothing else."""
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDict
    if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
        return getattr(torch._utils, name)
    if module == "torch":
        value = getattr(torch, name, None)
        return value if value in (torch.Size, torch.device) or isinstance(value, torch.dtype) else None
    return None


class Restricted(pickle.Unpickler):
    """Gives tensors their builders and everything else an ``Inert``: no foreign code is even imported."""

    def find_class(self, module: str, name: str) -> Any:
        """Called for every global of the pickle."""
        known = _known(module, name)
        return Inert if known is None else known


def _pickle_module() -> types.ModuleType:
    """The parts of ``pickle`` that torch.load uses, with the restricted unpickler."""
    module = types.ModuleType("restricted_pickle")

    def load(file: Any, **options: Any) -> Any:
        return Restricted(file, **options).load()

    vars(module).update(
        Unpickler=Restricted, load=load, UnpicklingError=pickle.UnpicklingError, __name__="restricted_pickle"
    )
    return module


def load_restricted(file: Path, wanted: tuple[str, ...]) -> State:
    """The wanted tensors of a checkpoint whatever else is pickled in it; nothing of that is executed."""
    if is_zip(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise TypeError("is a TorchScript program, which route torchscript runs")
    options = {"pickle_module": _pickle_module(), "weights_only": False} | mapping(file)
    content = torch.load(file, map_location="cpu", **options)
    state = unwrap(content, wanted)
    found = {k: v for k, v in state.items() if k.startswith(wanted)}
    if not found:
        raise TypeError(f"no tensor's name begins with {' or '.join(wanted)}; it has {list(state)[:5]}")
    return found


def save(state: State, file: Path, metadata: dict[str, str]) -> None:
    """Write safetensors, one tensor at a time, so that memory holds no copy of the whole."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in state.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        code = CODES[tensor.dtype]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for tensor in state.values():
            plain = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            handle.write(memoryview(plain.numpy()))


def main() -> int:
    """``pickled.py FILE OUT JSON``; the JSON names the wanted prefixes and the metadata."""
    source, out, task = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    try:
        state = load_restricted(source, tuple(task["wanted"]))
        save(state, out, task["metadata"])
    except Exception as error:  # the parent shows one line, whatever a damaged or hostile file provokes
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"tensors": len(state), "bytes": out.stat().st_size}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
