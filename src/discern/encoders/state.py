"""From published checkpoint files to a complete, strictly checked state dict.

The common failure of model hubs is silent: keys that do not fit are reported as a warning and the
layers stay random. Here every tensor of the encoder must come from the file, or the job aborts with
the names. Files are read without executing anything that is pickled in them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from discern.encoders.base import Request, weight_files
from discern.errors import DiscernError, problem

State = dict[str, torch.Tensor]

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model", "module")  # under which training scripts file their weights
SHOWN = 5


def seed_random(request: Request) -> None:
    """Seed the initialisation that follows; random weights without a seed are refused."""
    if request.loader.keys == "random" and request.loader.seed is None:
        raise problem(f"model '{request.model}'", "random weights need loader.seed")
    torch.manual_seed(request.loader.seed or 0)


def restore(
    request: Request,
    module: torch.nn.Module,
    head: str = "",
    drop_head: Callable[[], None] = lambda: None,
) -> None:
    """Load the card's files into ``module`` in place and take the classifier off.

    ``head`` is the dotted name of the classifier, ``drop_head`` removes it from ``module``.
    A published classifier is left out; everything else must fit, else DiscernError.
    """
    loader = request.loader
    if loader.keys == "random":
        drop_head()
        return
    state = read_state(weight_files(request, SUFFIXES), prefixes(loader.prefix))
    where = f"model '{request.model}'"
    if loader.keys == "named":
        drop_head()
        load_named(module, state, prefixes(loader.prefix), head, where)
        return
    with_head = len(state) == len(module.state_dict())
    if not with_head:
        drop_head()
    load_by_order(module, state, where)
    if with_head:
        drop_head()


def prefixes(prefix: str | list[str]) -> list[str]:
    """The card's prefix or prefixes as a list; an empty one takes every key."""
    return [prefix] if isinstance(prefix, str) else prefix


def read_state(files: Iterable[Path], wanted: list[str]) -> State:
    """All tensors of the files whose key begins with a wanted prefix, in file order.

    Of a sharded checkpoint only those are read, so that an image tower does not need the memory of
    the language model around it. Raises DiscernError for damaged files and files that hold code.
    """
    state: State = {}
    seen: list[str] = []
    files = list(files)
    for file in files:
        keys, part = _read(file, tuple(wanted))
        seen += keys
        if twice := state.keys() & part.keys():
            raise problem(str(file), f"a second tensor named {_some(twice)}")
        state.update(part)
    if not state:
        raise problem(
            ", ".join(str(f) for f in files),
            f"no tensor's name begins with {' or '.join(wanted)}; the names are {_some(seen)}",
            repair="correct loader.prefix in the model card",
        )
    return state


def _read(file: Path, wanted: tuple[str, ...]) -> tuple[list[str], State]:
    try:
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="pt") as content:
                keys = list(content.keys())
                return keys, {k: content.get_tensor(k) for k in keys if k.startswith(wanted)}
        tensors = _unwrap(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise problem(
            str(file),
            "holds more than tensors, which could be code, and is refused",
            repair="convert it to safetensors where you trust it",
        ) from error
    except Exception as error:  # each reader has its own exceptions for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise problem(
            str(file), f"cannot be read as a checkpoint ({reason})", repair=f"fetch it again: rm {file}"
        ) from error
    return list(tensors), {k: v for k, v in tensors.items() if k.startswith(wanted)}


def _unwrap(content: object) -> State:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise DiscernError(f"found {type(content).__name__}, not a mapping of tensors")
    state = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if state and all(k.startswith("module.") for k in state):  # saved from a data-parallel wrapper
        state = {k.removeprefix("module."): v for k, v in state.items()}
    return state


def load_named(module: torch.nn.Module, state: State, wanted: list[str], head: str, where: str) -> None:
    """Load by name. A prefix comes off as far as the target's own keys demand, whatever the library."""
    target = module.state_dict()
    mapped: State = {}
    unexpected = []
    for key, tensor in state.items():
        names = _candidates(key, wanted)
        name = next((n for n in names if n in target), None)
        if name is None:
            # Older checkpoints store the index 0..n-1 as a buffer; it is no weight.
            if not key.endswith("position_ids") and not _in_head(names, head):
                unexpected.append(key)
        elif name in mapped:
            raise problem(where, f"two published tensors fit '{name}', one is '{key}'")
        else:
            mapped[name] = tensor
    missing = [name for name in target if name not in mapped]
    if missing or unexpected:
        parts = [
            f"{len(names)} {kind} ({_some(names)})"
            for kind, names in (("missing in the file", missing), ("unknown to the encoder", unexpected))
            if names
        ]
        raise problem(
            where,
            f"checkpoint and encoder do not fit: {'; '.join(parts)}",
            repair="correct loader.arch, loader.options or loader.prefix in the model card",
        )
    for name, tensor in mapped.items():
        _same_shape(name, target[name], name, tensor, where)
    module.load_state_dict(mapped, strict=True)


def _candidates(key: str, wanted: list[str]) -> list[str]:
    """Names under which the target may know ``key``: the prefix off wholly, in part, not at all."""
    prefix = max((p for p in wanted if key.startswith(p)), key=len)
    rest = key[len(prefix) :]
    parts = prefix.removesuffix(".").split(".") if prefix else []
    return [".".join([*parts[i:], rest]) for i in range(len(parts), -1, -1)]


def _in_head(names: list[str], head: str) -> bool:
    return bool(head) and any(n == head or n.startswith(head + ".") for n in names)


def load_by_order(module: torch.nn.Module, state: State, where: str) -> None:
    """Load the n-th published tensor into the n-th of the module; every pair must agree in shape."""
    target = module.state_dict()
    for (name, wanted), (key, tensor) in zip(target.items(), state.items(), strict=False):
        _same_shape(name, wanted, key, tensor, where)
    if len(target) != len(state):
        raise problem(where, f"the checkpoint has {len(state)} tensors, the encoder {len(target)}")
    module.load_state_dict(dict(zip(target, state.values(), strict=True)), strict=True)


def _same_shape(name: str, wanted: torch.Tensor, key: str, found: torch.Tensor, where: str) -> None:
    if wanted.shape != found.shape:
        raise problem(
            where,
            f"the encoder's '{name}' has shape {tuple(wanted.shape)}, "
            f"the checkpoint's '{key}' {tuple(found.shape)}",
            repair="correct loader.arch or loader.options in the model card",
        )


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f", ... {len(names)} in all" if len(names) > SHOWN else "")
