"""The card against the configuration that the authors published beside the weights.

What leaves no trace in tensor names and shapes goes wrong in silence: with another activation, number
of heads or epsilon every key fits and every feature is wrong.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from discern.encoders.base import Request
from discern.errors import DiscernError, problem
from discern.files import read_json

TRANSFORMERS = "config.json"
OPEN_CLIP = "open_clip_config.json"

#: Fields of a transformers configuration that matter in training only, or to other outputs than ours.
OTHER = re.compile("drop|initializer|_prob$|^out_|stage_names|mask_token|encoder_stride|reshape_hidden")

#: Fields of open_clip's image tower that only matter in training, or say where to download from.
TRAINING = {"patch_dropout", "timm_model_pretrained", "timm_drop", "timm_drop_path"}


def check_transformers(request: Request, config: Any) -> None:
    """Compare ``config`` with a fetched ``config.json``, if there is one; DiscernError names a difference.

    A vision tower inside a larger model is looked up under ``vision_config``. Fields that the file
    leaves out are not compared: their defaults have changed between versions of the library.
    """
    published, mine = published_options(request, config), config.to_dict()
    if "Projection" not in request.loader.arch:
        published.pop("projection_dim", None)
    pairs = {k: (mine[k], value) for k, value in published.items() if value is not None}
    _refuse(request, request.weights.get(TRANSFORMERS), pairs)


def published_options(request: Request, config: Any) -> dict[str, Any]:
    """The fields in a fetched ``config.json`` that ``config`` has too; empty without such a file."""
    from transformers import PretrainedConfig

    file = request.weights.get(TRANSFORMERS)
    found = _vision(read_json(file), config.model_type) if file else {}
    own = config.to_dict().keys() - PretrainedConfig().to_dict().keys() - {"model_type"}
    return {k: v for k, v in found.items() if k in own and not OTHER.search(k)}


def check_open_clip(request: Request, config: dict[str, Any]) -> None:
    """Compare ``config`` (embed_dim, vision_cfg, quick_gelu) with a fetched ``open_clip_config.json``.

    What either leaves out has open_clip's default. DiscernError names a difference.
    """
    file = request.weights.get(OPEN_CLIP)
    if file is None:
        return
    mine, theirs = _tower(config, request), _tower(published_open_clip(request), request)
    _refuse(request, file, {k: (mine[k], theirs[k]) for k in theirs if k not in TRAINING})


def published_open_clip(request: Request) -> dict[str, Any]:
    """``model_cfg`` of a fetched ``open_clip_config.json``; empty without one."""
    file = request.weights.get(OPEN_CLIP)
    if file is None:
        return {}
    content = read_json(file)
    found = content.get("model_cfg", content) if isinstance(content, dict) else {}
    if not {"embed_dim", "vision_cfg"} <= found.keys():
        raise problem(str(file), "has no embed_dim and vision_cfg", repair=f"fetch it again: rm {file}")
    # open_clip's own reading of a file that says nothing of the activation.
    return {"quick_gelu": False} | found


def _tower(config: dict[str, Any], request: Request) -> dict[str, Any]:
    from open_clip.model import CLIPVisionCfg

    try:
        vision = dataclasses.asdict(CLIPVisionCfg(**config["vision_cfg"]))
    except TypeError as error:
        raise DiscernError(f"model '{request.model}': vision_cfg: {error}") from error
    own = {"embed_dim": config["embed_dim"]}
    if not vision["timm_model_name"]:
        own["quick_gelu"] = bool(config.get("quick_gelu", False))
    return own | vision


def _vision(content: Any, model_type: str) -> dict[str, Any]:
    """The part of a transformers configuration that describes an image tower of ``model_type``."""
    if not isinstance(content, dict):
        return {}
    inner = content.get("vision_config")
    if isinstance(inner, dict):
        # The outer projection is the one that the whole model uses.
        outer = content.get("projection_dim")
        return inner | ({"projection_dim": outer} if outer is not None else {})
    # Any other model's own fields (hidden_size of a language model) say nothing of its image tower.
    return content if content.get("model_type") == model_type else {}


def _refuse(request: Request, file: Path | None, pairs: dict[str, tuple[Any, Any]]) -> None:
    wrong = [f"{k}: card {a!r}, published {b!r}" for k, (a, b) in pairs.items() if _plain(a) != _plain(b)]
    if wrong:
        raise problem(
            f"model '{request.model}'",
            f"the card contradicts {file}: {'; '.join(wrong)}",
            repair="correct loader.arch or loader.options in the model card",
        )


def _plain(value: Any) -> Any:
    """Sizes that mean the same compare equal: 224 and [224, 224]."""
    if isinstance(value, (list, tuple)):
        parts = [_plain(v) for v in value]
        return parts[0] if len(set(map(str, parts))) == 1 and len(parts) == 2 else parts
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
