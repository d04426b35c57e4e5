"""A card that contradicts the configuration published with the weights is refused, field by field."""

import json

import open_clip
import pytest
import torch
import transformers
from safetensors.torch import save_file

from discern.encoders.base import load_encoder
from discern.errors import DiscernError

SIZE = 32
VISION = {
    "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": SIZE, "patch_size": 8, "projection_dim": 16,
}  # fmt: skip
TOWER = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": SIZE}


def encoder(folder, state, configuration, name, d, output="", **loader):
    save_file({k: v.contiguous().clone() for k, v in state.items()}, folder / "model.safetensors")
    (folder / name).write_text(json.dumps(configuration))
    spec = {
        "name": "planted",
        "loader": loader,
        "preprocess": {"resize": "squash", "size": SIZE},
        "feature": {"name": "planted", "d": d, "output": output},
    }
    return load_encoder(spec, {f: folder / f for f in ("model.safetensors", name)}, "cpu")


def clip_vision(folder, published, options, arch="CLIPVisionModelWithProjection"):
    kind = getattr(transformers, arch)
    state = kind(transformers.CLIPVisionConfig(**VISION)).state_dict()
    output = {"d": 16, "output": "image_embeds"} if "Projection" in arch else {"d": 24, "output": "cls"}
    loader = {"route": "transformers", "arch": arch, "options": options}
    return encoder(folder, state, published, "config.json", **output, **loader)


def test_equal_fields_pass_whatever_else_the_file_says(tmp_path):
    inner = VISION | {"model_type": "clip_vision_model", "dropout": 0.5, "projection_dim": 512, "top_k": 50}
    whole = {"model_type": "clip", "projection_dim": 16, "vision_config": inner, "hidden_size": 4096}
    assert clip_vision(tmp_path, whole, VISION).d == 16


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden_act", "gelu"), ("layer_norm_eps", 1e-6), ("num_attention_heads", 4), ("image_size", 224)],
)
@pytest.mark.parametrize("nested", [True, False])
def test_another_value_is_refused_with_both(tmp_path, field, value, nested):
    published = VISION | {"model_type": "clip_vision_model", field: value}
    published = {"model_type": "clip", "vision_config": published} if nested else published
    with pytest.raises(DiscernError, match=rf"{field}: card .*, published {value!r}"):
        clip_vision(tmp_path, published, VISION)


def test_the_projection_of_the_whole_model_counts_where_there_is_one(tmp_path):
    whole = {"model_type": "clip", "projection_dim": 512, "vision_config": VISION}
    with pytest.raises(DiscernError, match="projection_dim: card 16, published 512"):
        clip_vision(tmp_path, whole, VISION)
    assert clip_vision(tmp_path, whole, VISION, "CLIPVisionModel").d == 24


def test_a_language_models_own_fields_are_not_the_towers(tmp_path):
    llava = {"model_type": "llava_llama", "hidden_size": 4096, "hidden_act": "silu"}
    assert clip_vision(tmp_path, llava, VISION).d == 16


def test_a_card_without_options_takes_the_published_ones(tmp_path):
    published = VISION | {"model_type": "clip_vision_model", "hidden_act": "gelu", "dropout": 0.5}
    assert clip_vision(tmp_path, published, {}).module.config.hidden_act == "gelu"


def open_clip_tower(folder, published, **loader):
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=40, vision_cfg=dict(TOWER), text_cfg=text)
    content = {"model_cfg": published, "preprocess_cfg": {}}
    loader = {"route": "open_clip", "prefix": "visual.", **loader}
    return encoder(folder, model.state_dict(), content, "open_clip_config.json", 40, **loader)


def test_open_clip_takes_everything_from_the_published_file(tmp_path):
    published = {"embed_dim": 40, "vision_cfg": TOWER, "text_cfg": {}, "quick_gelu": True}
    quick = open_clip_tower(tmp_path, published).module
    plain = open_clip_tower(tmp_path, published | {"quick_gelu": False}).module
    kinds = [type(m.transformer.resblocks[0].mlp.gelu).__name__ for m in (quick, plain)]
    assert kinds == ["QuickGELU", "GELU"]


def test_open_clip_card_against_the_published_file(tmp_path):
    published = {"embed_dim": 40, "vision_cfg": TOWER, "text_cfg": {}}
    mine = {"embed_dim": 40, "vision_cfg": TOWER | {"patch_dropout": 0.5}, "quick_gelu": False}
    assert open_clip_tower(tmp_path, published, options=mine).d == 40
    with pytest.raises(DiscernError, match="quick_gelu: card True, published False"):
        open_clip_tower(tmp_path, published, options=mine | {"quick_gelu": True})
    heads = {"options": mine | {"vision_cfg": TOWER | {"head_width": 16}}}
    with pytest.raises(DiscernError, match="head_width: card 16, published 32"):
        open_clip_tower(tmp_path, published, **heads)


def test_a_published_file_without_a_tower_is_named(tmp_path):
    with pytest.raises(DiscernError, match=r"open_clip_config\.json: has no embed_dim and vision_cfg"):
        open_clip_tower(tmp_path, {"embed_dim": 40})
