"""Reading published checkpoint files: single or sharded, with little memory, executing nothing.

A language model of many gigabytes may surround an image tower of one. Files are therefore mapped, only
the shards that hold wanted tensors are opened, and tensors are handed out one at a time.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from discern.encoders.base import Request, weight_files
from discern.encoders.pickled import State, is_zip, mapping, unwrap
from discern.errors import DiscernError, problem
from discern.files import read_json, sha256_file

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
INDEX = ".index.json"
SHOWN = 5

#: Bytes read from a mapped file before it is mapped afresh: pages that were read count as memory.
RELEASE = 256 << 20

Shape = tuple[int, ...]


class Checkpoint:
    """The wanted tensors of one or more files; nothing is read before it is asked for.

    ``shapes`` has the published names and shapes in file order. Raises DiscernError for damaged files,
    files that hold more than tensors, and a wanted tensor that the index promises and no file has.
    """

    def __init__(
        self, files: Iterable[Path], wanted: list[str], indices: Iterable[Path] = (), model: str = ""
    ):
        self._wanted, self._model = tuple(wanted), model
        self._places: dict[str, Path] = {}
        self.shapes: dict[str, Shape] = {}
        self._seen: list[str] = []
        files = list(files)
        for file in self._needed(files, list(indices)):
            self._list(file)
        if not self.shapes:
            raise problem(
                ", ".join(str(f) for f in files),
                f"no tensor's name begins with {' or '.join(wanted)}; the names are {some(self._seen)}",
                repair="correct loader.prefix in the model card",
            )

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """These tensors, file by file, each on the CPU and in its published element type."""
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self._places[name], []).append(name)
        for file, part in by_file.items():
            _, get, mapped = self._open(file)
            used = 0
            for name in part:
                if mapped and used > RELEASE:
                    _, get, mapped = self._open(file)
                    used = 0
                tensor = get(name)
                used += tensor.numel() * tensor.element_size()
                yield name, tensor

    def _list(self, file: Path) -> None:
        shapes, _, _ = self._open(file)
        self._seen += shapes
        wanted = {k: shape for k, shape in shapes.items() if k.startswith(self._wanted)}
        if twice := self.shapes.keys() & wanted.keys():
            raise problem(str(file), f"a second tensor named {some(twice)}")
        self.shapes |= wanted
        self._places |= dict.fromkeys(wanted, file)
        if absent := sorted(k for k, f in self._promised.items() if f == file and k not in wanted):
            raise problem(
                str(file),
                f"lacks {some(absent)}, which its index says it holds",
                repair=f"fetch it again: rm {file}",
            )

    def _needed(self, files: list[Path], indices: list[Path]) -> list[Path]:
        """The files without the shards that hold nothing wanted."""
        listed: set[Path] = set()
        self._promised: dict[str, Path] = {}
        for index in indices:
            shards = _weight_map(index)
            listed |= {index.parent / shard for shard in shards.values()}
            self._promised |= {k: index.parent / s for k, s in shards.items() if k.startswith(self._wanted)}
        for key, shard in self._promised.items():
            if shard not in files:
                raise problem(
                    str(shard),
                    f"is not among the fetched files, but holds '{key}' by the index",
                    repair="name the shard in weights.files of the model card, or weights.index instead",
                )
        needed = set(self._promised.values())
        return [f for f in files if f not in listed or f in needed]

    def _open(self, file: Path) -> tuple[dict[str, Shape], Callable[[str], torch.Tensor], bool]:
        """Shapes by name, a function that reads one tensor, and whether the file is mapped."""
        try:
            if file.suffix == ".safetensors":
                from safetensors import safe_open

                content: Any = safe_open(file, framework="pt")
                shapes = {k: tuple(content.get_slice(k).get_shape()) for k in content.keys()}  # noqa: SIM118
                return shapes, content.get_tensor, True
            if not is_zip(file) and _runs_old_formats():
                raise pickle.UnpicklingError("Unsupported format")
            options = mapping(file)
            loaded = torch.load(file, map_location="cpu", weights_only=True, **options)
            tensors = unwrap(loaded, self._wanted)
        except Exception as error:  # each reader has its own exceptions for damaged files
            raise self._unreadable(file, error) from error
        kept = {k: v for k, v in tensors.items() if k.startswith(self._wanted)}
        return {k: tuple(v.shape) for k, v in tensors.items()}, kept.__getitem__, bool(options)

    def _unreadable(self, file: Path, error: Exception) -> DiscernError:
        text = str(error)
        if isinstance(error, pickle.UnpicklingError) and re.search(r"Unsupported|GLOBAL|not allowed", text):
            named = re.search(r"GLOBAL ([\w.]+)", text)
            what = f" (first {named[1]})" if named else ""
            return problem(
                str(file),
                f"holds more than tensors{what}, which could be code, and is refused",
                repair="if you trust its origin, take the tensors out of it: "
                f"python -m discern convert {self._model or 'MODEL'} --trust {sha256_file(file)}",
            )
        if "TorchScript" in text:
            return problem(
                str(file),
                "is a TorchScript program, not a checkpoint",
                repair="use loader.route 'torchscript', or fetch the weights themselves",
            )
        reason = text.splitlines()[0] if text else type(error).__name__
        return problem(
            str(file), f"cannot be read as a checkpoint ({reason})", repair=f"fetch it again: rm {file}"
        )


def open_checkpoint(request: Request) -> Checkpoint:
    """The fetched files of a model, restricted to the tensors under ``loader.prefix``."""
    indices = [path for name, path in sorted(request.weights.items()) if name.endswith(INDEX)]
    return Checkpoint(weight_files(request, SUFFIXES), request.loader.prefixes, indices, request.model)


def read_state(files: Iterable[Path], wanted: list[str]) -> State:
    """All tensors of the files whose name begins with a wanted prefix, in file order."""
    checkpoint = Checkpoint(files, wanted)
    return dict(checkpoint.read(checkpoint.shapes))


def _runs_old_formats() -> bool:
    """Whether this torch executes code from its formats before 1.6 even with weights_only: before 2.6."""
    major, minor = torch.__version__.split(".")[:2]
    return (int(major), int(minor)) < (2, 6)


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
        raise problem(str(index), "has no 'weight_map' of tensor names to files")
    return shards


def some(names: Iterable[str]) -> str:
    """The first names in order, and how many there are."""
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f", ... {len(names)} in all" if len(names) > SHOWN else "")
