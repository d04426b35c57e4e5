"""The official implementation and ours: the same checkpoint, the same pictures, the same features.

A test says how the official side is built and how its checkpoint looks on disk; the rest is ``check``::

    def official(options):                     # loader.options of the card, already shrunk
        module = randomised(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**options)))
        return Official(
            state={"vision_model." + k: v for k, v in module.state_dict().items()},  # published names
            features={"pooled_embedding": lambda x: module(pixel_values=x).pooler_output, ...},
            transform=open_clip.image_transform_v2(...),  # PIL image -> (C, H, W); None: there is none
        )

    def test_siglip(tmp_path):
        check(Case("siglip", official, "transformers", shrink={"num_hidden_layers": 2}, pixels=56), tmp_path)

``check`` writes ``state`` as the card's weight files are published (safetensors, torch zip, shards with
an index), loads it through the real card and compares every feature of the card; counts parameters and
d of the full architecture on the meta device against the card; and sees that one tensor too few or
too many aborts with its name. Nothing in it belongs to one model: special cases are fields of ``Case``.
``state`` may (and should) hold what the file holds beside the image encoder: text tower, logit scale.
"""

from __future__ import annotations

import copy
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from discern.encoders import preprocess
from discern.encoders.base import load_encoder, transform_of
from discern.errors import DiscernError
from discern.model_card import Loader, ModelCard, Preprocess
from discern.registry import Registry

CARDS = Registry([Path(__file__).resolve().parents[2] / "registry"]).models
TOLERANCE = 1e-4

State = dict[str, torch.Tensor]
Pictures = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Official:
    """The other side, with random weights: what its checkpoint holds, what it makes of pictures."""

    state: State  # published name -> tensor: the whole file, in its order
    features: dict[str, Pictures] = field(default_factory=dict)  # name on the card -> (B,C,H,W) -> (B,d)
    transform: Callable[[Image.Image], Any] | None = None  # full-size, RGB picture -> (C, H, W)


@dataclass
class Case:
    """One comparison."""

    model: str  # "clip_l14", "llava@official"; all its features are compared
    official: Callable[[dict[str, Any]], Official]  # takes the (shrunk) loader.options
    against: str  # library and version of the official side, as the docs shall say it
    kind: str = "official"  # structural: names, shapes, d and parameters only
    shrink: dict[str, Any] = field(default_factory=dict)  # merged into loader.options; empty: full size
    pixels: int | None = None  # side of the shrunk model's square input
    wrapper: str = ""  # the torch file files its weights under this name ...
    data_parallel: bool = False  # ... and as a data-parallel wrapper calls them
    shards: int = 0  # > 0: that many safetensors files and an index
    removed: tuple[str, str] | None = None  # published tensor to take out, and how the refusal calls it
    intruder: str = ""  # published name of a tensor that must be refused; empty: under the card's prefix
    pixel_tolerance: float = 0.0  # largest difference of the transforms, in units of the encoder's input
    tolerance: float = TOLERANCE


def check(case: Case, folder: Path) -> dict[str, float]:
    """Run the whole comparison; returns the relative difference per feature and records it."""
    card = CARDS[case.model]
    spec = shrunk(card, case)
    side = case.official(copy.deepcopy(spec["loader"]["options"]))
    weights = write(card, side.state, folder, case)
    pixels = compare_transforms(card, side, case)
    if case.kind == "official":
        assert side.features.keys() == {f.name for f in card.features}
    figures = {}
    for feature in card.features:
        spec = shrunk(card.selected(feature.name), case)
        pictures = photographs(Preprocess.model_validate(spec["preprocess"]))
        if feature.name not in side.features:
            spec["feature"]["d"] = meta(spec)[0]
            assert np.isfinite(load_encoder(spec, weights, "cpu").encode(pictures)).all()
            continue
        theirs = side.features[feature.name](torch.from_numpy(pictures)).float().numpy()
        spec["feature"]["d"] = theirs.shape[1]
        ours = load_encoder(spec, weights, "cpu").encode(pictures)
        spread = np.abs(theirs - theirs[:1]).max() / np.abs(theirs).max()
        assert spread > 100 * case.tolerance, "the pictures do not matter: weights drown them"
        figures[feature.name] = relative_difference(ours, theirs)
        assert figures[feature.name] <= case.tolerance, f"{case.model}@{feature.name}: {figures}"
    params = check_size(card)
    if case.shrink or case.removed:
        refuses_other_tensors(shrunk(card, case), card, side.state, folder, case)
    figure = max(figures.values(), default=None)
    record(case.model, case.kind, case.against, figure, card.feature.d, params, not case.shrink, pixels)
    return figures


def shrunk(card: ModelCard, case: Case) -> dict[str, Any]:
    """The card's extraction spec with the case's smaller architecture and input."""
    spec = card.extraction_spec()
    spec["loader"]["options"] = merged(spec["loader"]["options"], case.shrink)
    if case.pixels and spec["preprocess"]:
        spec["preprocess"]["size"] = case.pixels
        spec["preprocess"]["crop"] = case.pixels if spec["preprocess"]["crop"] else None
    return spec


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``, level by level."""
    both = {
        k: merged(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v
        for k, v in changes.items()
    }
    return base | both


# Weights ----------------------------------------------------------------------------------------------


def randomised(module: torch.nn.Module, seed: int = 0) -> Any:
    """Every parameter and floating buffer of the state dict made random, in place; eval mode.

    Fresh modules have ones in norms, zeros in biases and positions, the same in every layer: a
    tensor that went to the wrong place would not show. Scales are such that signals neither die nor blow up.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(random_tensor(name, tensor.shape, generator))
    return module.eval().requires_grad_(False)


def random_tensor(name: str, shape: Any, generator: torch.Generator) -> torch.Tensor:
    """Random float32 tensor of a scale that fits the role that its name tells."""
    shape = torch.Size(shape)
    normal = torch.randn(shape, generator=generator)
    last = name.rsplit(".", 1)[-1]
    if len(shape) > 1:
        if any(word in name for word in ("pos_", "position", "cls", "token", "class_", "latent", "probe")):
            return normal * 0.5
        return normal * (2 / shape[1:].numel()) ** 0.5
    if last == "running_var" or last in ("weight", "scale", "logit_scale") or "gamma" in name:
        return torch.rand(shape, generator=generator) + 0.5
    return normal * 0.2


# Files ------------------------------------------------------------------------------------------------


def write(card: ModelCard, state: State, folder: Path, case: Case) -> dict[str, Path]:
    """The checkpoint as the card's files are published; name -> path as ``read_weights`` gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    if case.shards:
        return write_shards(state, folder, case.shards)
    source = card.weights
    names = list(getattr(source, "files", [])) or [getattr(source, "tag", "") or getattr(source, "place", "")]
    name = next((n for n in names if Path(n).suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt")), "")
    name = Path(name).name or "model.safetensors"
    if name.endswith(".safetensors"):
        return write_safetensors(state, folder, name)
    return write_torch(state, folder, name, case.wrapper, case.data_parallel)


def write_safetensors(state: State, folder: Path, name: str = "model.safetensors") -> dict[str, Path]:
    """One safetensors file."""
    save_file({k: v.detach().contiguous().clone() for k, v in state.items()}, folder / name)
    return {name: folder / name}


def write_torch(
    state: State, folder: Path, name: str = "weights.pt", wrapper: str = "", data_parallel: bool = False
) -> dict[str, Path]:
    """One torch zip; ``wrapper``: as training scripts save it, beside an epoch number."""
    content: dict[str, Any] = {("module." + k if data_parallel else k): v for k, v in state.items()}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, folder / name)
    return {name: folder / name}


def write_shards(state: State, folder: Path, shards: int) -> dict[str, Path]:
    """Safetensors files that share the tensors, and ``model.safetensors.index.json``."""
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    place = {key: names[i * shards // len(state)] for i, key in enumerate(state)}
    files = {}
    for name in names:
        files |= write_safetensors({k: state[k] for k in place if place[k] == name}, folder, name)
    index = folder / "model.safetensors.index.json"
    size = sum(v.numel() * v.element_size() for v in state.values())
    index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": place}))
    return files | {index.name: index}


# Pictures ---------------------------------------------------------------------------------------------


def images() -> list[Image.Image]:
    """Two real RGB pictures, one square, one wide and of odd size; both come with scikit-image."""
    import skimage.data

    return [Image.fromarray(skimage.data.astronaut()), Image.fromarray(skimage.data.chelsea())]


def photographs(transform: Preprocess) -> np.ndarray:
    """The pictures through a card's transform: float32 (2, C, H, W)."""
    return np.stack([preprocess.apply(image, transform) for image in images()])


def compare_transforms(card: ModelCard, side: Official, case: Case) -> float | None:
    """Largest difference between the card's transform and the official one; None without one."""
    if side.transform is None:
        return None
    largest = 0.0
    for image in images():
        theirs = np.asarray(side.transform(image), dtype=np.float32)
        ours = preprocess.apply(image, card.transform)
        assert ours.shape == theirs.shape, f"{case.model}: {ours.shape} against {theirs.shape}"
        largest = max(largest, float(np.abs(ours - theirs).max()))
    assert largest <= case.pixel_tolerance, f"{case.model}: pixels differ by {largest}"
    return largest


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max |a - b| / max |b|."""
    assert ours.shape == theirs.shape, f"{ours.shape} against {theirs.shape}"
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


# Size and refusals ------------------------------------------------------------------------------------


def meta(spec: dict[str, Any]) -> tuple[int, int]:
    """d and number of parameters of the architecture, computed without any memory for them."""
    spec = copy.deepcopy(spec)
    spec["loader"] |= {"keys": "random", "seed": 0}
    transform: Any = transform_of(spec)
    colours = 1 if getattr(transform, "channels", "grey") == "grey" else 3  # volumes have one channel
    with torch.device("meta"):
        encoder: Any = load_encoder(spec, {}, "meta")
        shape = (1, colours, *transform.input_size)
        result = encoder.forward(torch.empty(shape))
    return result.shape[1], sum(p.numel() for p in encoder.module.parameters())


def check_size(card: ModelCard) -> int:
    """The full architecture against the card: d of every feature, parameters of the default one."""
    for feature in card.features:
        d, params = meta(card.selected(feature.name).extraction_spec())
        assert d == feature.d, f"{card.name}@{feature.name}: d is {d}"
        if feature is card.feature:
            counted = params
    if card.params is not None:
        assert counted == card.params, f"{card.name}: {counted} parameters, the card says {card.params}"
    return counted


def refuses_other_tensors(
    spec: dict[str, Any], card: ModelCard, state: State, folder: Path, case: Case
) -> None:
    """One tensor of the encoder removed, one added: both abort and name it."""
    loader = Loader.model_validate(spec["loader"])
    mine = [k for k in state if k.startswith(tuple(loader.prefixes)) and state[k].is_floating_point()]
    # A different place for every model, the same in every run; the middle, as heads stand at the ends.
    middle = mine[len(mine) // 4 : -(len(mine) // 4) or None]
    removed = case.removed or (middle[zlib.crc32(card.name.encode()) % len(middle)], "")
    name = removed[1] or removed[0].removeprefix(next(p for p in loader.prefixes if removed[0].startswith(p)))
    spec["feature"]["d"] = meta(spec)[0]
    fewer = {k: v for k, v in state.items() if k != removed[0]}
    with pytest.raises(DiscernError) as refused:
        load_encoder(spec, write(card, fewer, folder / "fewer", case), "cpu")
    assert name in str(refused.value), f"{name} is not named: {refused.value}"
    intruder = case.intruder or loader.prefixes[0] + "intruder.weight"
    more = state | {intruder: torch.ones(2)}
    with pytest.raises(DiscernError, match="intruder"):
        load_encoder(spec, write(card, more, folder / "more", case), "cpu")


# Figures ----------------------------------------------------------------------------------------------


def record(
    model: str,
    kind: str,
    against: str,
    figure: float | None,
    d: int,
    params: int,
    full: bool = False,
    pixels: float | None = None,
    **more: Any,
) -> None:
    """Append the figures of one check to ``$DISCERN_PARITY/<model>.jsonl``; nothing without the variable.

    ``figure``: largest relative difference of any feature; ``pixels``: largest one of the transforms.
    """
    if folder := os.environ.get("DISCERN_PARITY"):
        line = {"model": model, "kind": kind, "against": against, "figure": figure, "d": d, "params": params}
        file = Path(folder) / f"{model}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as out:
            out.write(json.dumps(line | {"full": full, "pixels": pixels} | more) + "\n")


def record_text(model: str, figure: float) -> None:
    """The same for a text tower: the largest relative difference of its embeddings."""
    if folder := os.environ.get("DISCERN_PARITY"):
        file = Path(folder) / f"{model}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as out:
            out.write(json.dumps({"model": model, "text": figure}) + "\n")
