"""From published names to a complete, strictly checked network.

The common failure of model hubs is silent: keys that do not fit are reported as a warning and the
layers stay random. Here every tensor of the encoder must come from the file, or the job aborts with
the names.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Iterable, Mapping

import torch

from discern.encoders.base import Request
from discern.encoders.checkpoint import SUFFIXES, Shape, open_checkpoint, read_state, some
from discern.encoders.pickled import State
from discern.errors import problem
from discern.model_card import Loader

__all__ = ["SUFFIXES", "Convert", "State", "read_state", "restore", "seed_random"]

log = logging.getLogger("discern")

Convert = Callable[[State], State]


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
    convert: Convert | None = None,
) -> None:
    """Load the card's files into ``module`` in place, in float32, and take the classifier off.

    ``head`` is the dotted name of the classifier, ``drop_head`` removes it from ``module``, ``convert``
    is the library's converter for ``loader.keys: converted`` (default: the module's own ``convert``).
    A published classifier is left out; everything else must fit, else DiscernError.
    """
    loader, where = request.loader, f"model '{request.model}'"
    module.float()
    if loader.keys == "random":
        drop_head()
        return
    checkpoint = open_checkpoint(request)
    if loader.keys == "by_order":
        names = [k for k in checkpoint.shapes if not _matches(k, loader.drop)]
        with_head = len(names) == len(module.state_dict())
        if not with_head:
            drop_head()
        pairs = _by_order(module, {k: checkpoint.shapes[k] for k in names}, where)
        _fill(module, pairs, checkpoint.read(pairs.values()))
        if with_head:
            drop_head()
        return
    drop_head()
    origin, dropped = _renamed(checkpoint.shapes, loader, where)
    _refuse_dropped_weights(module, dropped, loader, where)
    if loader.keys == "converted":
        own = convert or getattr(module, "convert", None)
        read = dict(checkpoint.read(origin.values()))
        state = _converted({new: read[key] for new, key in origin.items()}, loader, own, where)
        pairs = match(module, {k: tuple(v.shape) for k, v in state.items()}, loader, head, where)
        _fill(module, pairs, state.items())
        return
    shapes = {new: checkpoint.shapes[key] for new, key in origin.items()}
    pairs = {name: origin[new] for name, new in match(module, shapes, loader, head, where).items()}
    _fill(module, pairs, checkpoint.read(pairs.values()))


def match(
    module: torch.nn.Module, shapes: Mapping[str, Shape], loader: Loader, head: str, where: str
) -> dict[str, str]:
    """Name in ``module`` -> name in ``shapes``, one to one; DiscernError naming what does not fit.

    A prefix comes off as far as the module's own names demand, whatever the library calls them.
    """
    target = module.state_dict()
    pairs: dict[str, str] = {}
    unexpected = []
    for key in shapes:
        names = candidates(key, loader.prefixes)
        name = next((n for n in names if n in target), None)
        if name is None:
            # Older checkpoints store the index 0..n-1 as a buffer; it is no weight.
            if not key.endswith("position_ids") and not _in_head(names, head):
                unexpected.append(key)
        elif name in pairs:
            raise problem(where, f"two published tensors fit '{name}': '{pairs[name]}' and '{key}'")
        else:
            pairs[name] = key
    missing = [name for name in target if name not in pairs]
    if missing or unexpected:
        raise _misfit(missing, unexpected, loader, where)
    _same_shapes(target, pairs, shapes, where)
    return pairs


def candidates(key: str, prefixes: list[str]) -> list[str]:
    """Names under which the encoder may know ``key``: the prefix off wholly, in part, not at all."""
    prefix = max((p for p in prefixes if key.startswith(p)), key=len, default="")
    rest = key[len(prefix) :].removeprefix(".")
    parts = prefix.removesuffix(".").split(".") if prefix else []
    # A prefix may be a tensor's whole name; then nothing remains to stand alone.
    return [".".join(p for p in [*parts[i:], rest] if p) for i in range(len(parts), -1, -1)]


def _renamed(keys: Iterable[str], loader: Loader, where: str) -> tuple[dict[str, str], list[str]]:
    """New name -> published name, and the new names of what ``loader.drop`` takes away."""
    origin: dict[str, str] = {}
    dropped = []
    for key in keys:
        name = key
        for pattern, replacement in loader.rename.items():
            name = re.sub(pattern, replacement, name)
        if _matches(key, loader.drop):
            dropped.append(name)
        elif name in origin:
            raise problem(where, f"loader.rename makes '{name}' of both '{origin[name]}' and '{key}'")
        else:
            origin[name] = key
    return origin, dropped


def _matches(key: str, patterns: list[str]) -> bool:
    return any(re.search(pattern, key) for pattern in patterns)


def _refuse_dropped_weights(module: torch.nn.Module, dropped: list[str], loader: Loader, where: str) -> None:
    target = module.state_dict()
    if real := [k for k in dropped if any(n in target for n in candidates(k, loader.prefixes))]:
        raise problem(
            where,
            f"loader.drop takes weights of the encoder away: {some(real)}",
            repair="narrow the regular expression in loader.drop",
        )


def _converted(state: State, loader: Loader, convert: Convert | None, where: str) -> State:
    """The state after the library's converter, which gets it without any prefix."""
    if convert is None:
        raise problem(
            where,
            f"loader.keys is 'converted', but '{loader.arch or loader.route}' has no converter",
            repair="use keys 'named', with loader.rename where names differ",
        )
    bare = {candidates(key, loader.prefixes)[0]: tensor for key, tensor in state.items()}
    if len(bare) < len(state):
        raise problem(where, "loader.prefix: two published tensors have the same name without their prefix")
    shapes = {name: tensor.shape for name, tensor in bare.items()}
    try:
        result = dict(convert(bare))
    except Exception as error:  # foreign code that was written for other checkpoints
        reason = f"{type(error).__name__}: {error}"
        raise problem(
            where,
            f"the converter of '{loader.arch}' does not know this checkpoint ({reason}); "
            f"it was given {some(bare)}",
            repair="correct loader.prefix or loader.arch in the model card",
        ) from error
    if resampled := [k for k, v in result.items() if shapes.get(k, v.shape) != v.shape]:
        log.warning("%s: the library's converter resampled or reshaped %s", where, some(resampled))
    return result


def _in_head(names: list[str], head: str) -> bool:
    return bool(head) and any(n == head or n.startswith(head + ".") for n in names)


def _by_order(module: torch.nn.Module, shapes: dict[str, Shape], where: str) -> dict[str, str]:
    """The n-th name of the module -> the n-th published one; every pair must agree in shape."""
    target = module.state_dict()
    pairs = dict(zip(target, shapes, strict=False))
    _same_shapes(target, pairs, shapes, where)
    if len(target) != len(shapes):
        raise problem(where, f"the checkpoint has {len(shapes)} tensors, the encoder {len(target)}")
    return pairs


def _same_shapes(target: State, pairs: dict[str, str], shapes: Mapping[str, Shape], where: str) -> None:
    wrong = [
        f"the encoder's '{name}' has shape {tuple(target[name].shape)}, "
        f"the checkpoint's '{key}' {tuple(shapes[key])}"
        for name, key in pairs.items()
        if tuple(target[name].shape) != tuple(shapes[key])
    ]
    if wrong:
        more = f"; {len(wrong)} such tensors in all" if len(wrong) > 1 else ""
        raise problem(
            where, wrong[0] + more, repair="correct loader.arch or loader.options in the model card"
        )


def _misfit(missing: list[str], unexpected: list[str], loader: Loader, where: str) -> Exception:
    parts = [
        f"{len(names)} {kind} ({some(names)})"
        for kind, names in (("missing in the file", missing), ("unknown to the encoder", unexpected))
        if names
    ]
    return problem(
        where,
        f"checkpoint and encoder do not fit: {'; '.join(parts)}{_likeness(missing, unexpected, loader)}",
        repair="correct loader.arch, options, prefix or rename in the model card",
    )


def _likeness(missing: list[str], unexpected: list[str], loader: Loader) -> str:
    """A pair that probably is one tensor under two names: what a rename or prefix should bring together."""
    if not missing or not unexpected:
        return ""
    key = unexpected[0]
    near = [
        n for n in missing if key.endswith("." + n) or n.endswith("." + candidates(key, loader.prefixes)[0])
    ]
    near = near or difflib.get_close_matches(key, missing, n=1, cutoff=0.7)
    return f"; '{key}' looks like the encoder's '{near[0]}'" if near else ""


def _fill(
    module: torch.nn.Module, pairs: dict[str, str], tensors: Iterable[tuple[str, torch.Tensor]]
) -> None:
    """Copy tensors into the module one at a time, so that memory never holds a second network."""
    target = module.state_dict()
    names = {key: name for name, key in pairs.items()}
    with torch.no_grad():
        for key, tensor in tensors:
            if key in names:
                _same_kind(names[key], target[names[key]], key, tensor)
                target[names[key]].copy_(tensor)


def _same_kind(name: str, wanted: torch.Tensor, key: str, found: torch.Tensor) -> None:
    # Quantised weights are integers that mean nothing without their scales.
    if wanted.is_floating_point() and not found.is_floating_point():
        raise problem(f"tensor '{key}'", f"holds {found.dtype}, the encoder's '{name}' {wanted.dtype}")
