"""Every route loads a checkpoint in its published layout strictly and gives the tensor it names."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import open_clip
import pytest
import timm
import torch
import torchvision
import transformers
from onnx import TensorProto, helper
from safetensors.torch import save_file

from discern.encoders.base import load_encoder
from discern.errors import DiscernError

SIZE = 32
VISION = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 8,
}
DINO = {k: v for k, v in VISION.items() if k != "intermediate_size"} | {"mlp_ratio": 2}
TOWER = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": SIZE}


def spec(d, output="", **loader):
    return {
        "name": "planted",
        "loader": loader,
        "preprocess": {"resize": "squash", "size": SIZE},
        "feature": {"name": "planted", "d": d, "output": output},
    }


@pytest.fixture
def batch():
    return np.random.default_rng(0).standard_normal((3, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def checkpoint(tmp_path):
    def save(state):
        save_file({k: v.contiguous().clone() for k, v in state.items()}, tmp_path / "model.safetensors")
        return {"model.safetensors": tmp_path / "model.safetensors"}

    return save


def expected(module, batch, forward=None):
    module.eval()
    with torch.inference_mode():
        return (forward or module)(torch.from_numpy(batch)).numpy()


def close(a, b):
    return np.allclose(a, b, atol=1e-5 * np.abs(b).max())


def randomised(module):
    """Statistics and positions start as zeros and ones, which a forgotten tensor would equal."""
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.05, 0.2)
    return module.eval()


def test_torchvision_is_the_network_without_its_classifier(batch, checkpoint):
    module = randomised(torchvision.models.resnet18(weights=None, num_classes=11))
    encoder = load_encoder(spec(512, route="torchvision", arch="resnet18"), checkpoint(module.state_dict()))
    module.fc = torch.nn.Identity()
    assert close(encoder.encode(batch), expected(module, batch))


def test_torchvision_by_order_with_foreign_names(batch, checkpoint):
    module = randomised(torchvision.models.mobilenet_v2(weights=None))
    module.classifier = torch.nn.Identity()
    state = {f"{i:04d}": v for i, v in enumerate(module.state_dict().values())}
    loader = {"route": "torchvision", "arch": "mobilenet_v2", "keys": "by_order"}
    encoder = load_encoder(spec(1280, **loader), checkpoint(state))
    assert close(encoder.encode(batch), expected(module, batch))


@pytest.mark.parametrize(("output", "pooled"), [("layer2", "layer2"), ("avgpool", "avgpool")])
def test_torchvision_inner_module_without_what_comes_after_it(batch, checkpoint, output, pooled):
    module = randomised(torchvision.models.resnet18(weights=None))
    seen = {}
    getattr(module, pooled).register_forward_hook(lambda m, given, made: seen.update(made=made))
    expected(module, batch)
    truth = seen["made"].mean(dim=(2, 3)).numpy()
    loader = {"route": "torchvision", "arch": "resnet18"}
    state = module.state_dict()
    encoder = load_encoder(spec(truth.shape[1], output=output, **loader), checkpoint(state))
    assert close(encoder.encode(batch), truth)
    names = set(encoder.module.state_dict())
    assert ("layer3.0.conv1.weight" in names) == (output == "avgpool")
    assert "fc.weight" not in names
    with pytest.raises(DiscernError, match=r"unknown to the encoder \(layer1\.7\.weight\)"):
        load_encoder(
            spec(128, output=output, **loader), checkpoint(state | {"layer1.7.weight": torch.ones(2)})
        )


def test_torchvision_unknown_inner_module_has_a_suggestion():
    with pytest.raises(DiscernError, match=r"no module is called 'layer5'; did you mean.*'layer"):
        load_encoder(spec(128, output="layer5", route="torchvision", arch="resnet18"), {})


@pytest.mark.parametrize(
    ("output", "d"), [("", 24), ("cls", 24), ("patch_mean", 24), ("cls_patch_mean", 48), ("head", 7)]
)
def test_timm_outputs(batch, checkpoint, output, d):
    options = {"img_size": SIZE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    arch = "vit_tiny_patch16_224"
    module = randomised(timm.create_model(arch, pretrained=False, num_classes=7, **options))
    weights = checkpoint({f"visual.trunk.{k}": v for k, v in module.state_dict().items()})
    kept = {"num_classes": 7} if output == "head" else {}
    loader = {"route": "timm", "arch": arch, "options": options | kept, "prefix": "visual.trunk."}
    encoder = load_encoder(spec(d, output=output, **loader), weights)
    tokens = expected(module, batch, module.forward_features)
    truths = {
        "": tokens[:, 0],
        "cls": tokens[:, 0],
        "patch_mean": tokens[:, 1:].mean(1),
        "cls_patch_mean": np.concatenate([tokens[:, 0], tokens[:, 1:].mean(1)], axis=1),
        "head": expected(module, batch),
    }
    assert close(encoder.encode(batch), truths[output])


def test_timm_networks_without_tokens_refuse_them(checkpoint):
    for arch, output, lack in (
        ("resnet10t", "patch_mean", "no tokens"),
        ("vit_base_patch16_siglip_224", "cls", "no class token"),
    ):
        loader = {"route": "timm", "arch": arch, "keys": "random", "seed": 0}
        with pytest.raises(DiscernError, match=f"output '{output}': this network has {lack}"):
            load_encoder(spec(512, output=output, **loader), {})


def test_random_weights_repeat_by_seed(batch):
    def features(seed):
        loader = {"route": "timm", "arch": "resnet10t", "keys": "random", "seed": seed}
        return load_encoder(spec(512, **loader), {}).encode(batch)

    assert np.array_equal(features(0), features(0))
    assert not np.allclose(features(0), features(1))


def test_random_weights_need_a_seed():
    with pytest.raises(DiscernError, match=r"need loader\.seed"):
        load_encoder(spec(512, route="timm", arch="resnet10t", keys="random"), {})


@pytest.mark.parametrize(("output", "d"), [("", 40), ("pre_projection", 64)])
def test_open_clip_tower_from_a_whole_model(batch, checkpoint, output, d):
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=40, vision_cfg=dict(TOWER), text_cfg=text, quick_gelu=True)
    randomised(model.visual)
    options = {"embed_dim": 40, "vision_cfg": TOWER, "quick_gelu": True}
    loader = {"route": "open_clip", "options": options, "prefix": "visual.", "output": output}
    encoder = load_encoder(spec(d, **loader), checkpoint(model.state_dict()))
    if output:
        model.visual.proj = None
    assert close(encoder.encode(batch), expected(model.visual, batch))


@pytest.mark.parametrize(("output", "d"), [("", 40), ("pre_projection", 192)])
def test_open_clip_tower_with_a_timm_trunk(checkpoint, output, d):
    batch = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    vision = {
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    }
    module = randomised(open_clip.model._build_vision_tower(40, dict(vision)))
    loader = {"route": "open_clip", "options": {"embed_dim": 40, "vision_cfg": vision}, "output": output}
    weights = checkpoint({f"visual.{k}": v for k, v in module.state_dict().items()})
    encoder = load_encoder(spec(d, prefix="visual.", **loader), weights)
    if output:
        module.head = torch.nn.Identity()
    assert close(encoder.encode(batch), expected(module, batch))


def test_open_clip_architecture_by_name_is_strict(checkpoint):
    weights = checkpoint({"visual.conv1.weight": torch.zeros(768, 3, 32, 32)})
    loader = {"route": "open_clip", "arch": "ViT-B-32", "options": {"quick_gelu": False}, "prefix": "visual."}
    with pytest.raises(DiscernError, match=r"missing in the file \(class_embedding"):
        load_encoder(spec(512, **loader), weights)


def test_open_clip_s_own_towers_must_name_their_activation():
    """It leaves no trace in the checkpoint, and open_clip itself only warns."""
    with pytest.raises(DiscernError, match=r"lacks quick_gelu[\s\S]*true \(weights of OpenAI"):
        load_encoder(spec(512, route="open_clip", arch="ViT-B-16", prefix="visual."), {})


@pytest.mark.parametrize(
    ("route", "arch", "options", "message"),
    [
        (
            "transformers",
            "CLIPVisionModel",
            {"hiden_size": 8},
            "no option 'hiden_size'; did you mean 'hidden_size'",
        ),
        ("timm", "vit_tiny_patch16_224", {"dept": 2}, "timm cannot build 'vit_tiny_patch16_224'.*dept"),
        ("torchvision", "resnet18", {"num_clases": 2}, "torchvision cannot build 'resnet18'.*num_clases"),
        (
            "open_clip",
            "ViT-B-16",
            {"quick_gelu": True, "vision_cfg": {"layer": 2}},
            "open_clip cannot build.*layer",
        ),
    ],
)
def test_a_misspelt_option_is_refused(route, arch, options, message):
    with pytest.raises(DiscernError, match=message):
        load_encoder(
            spec(8, output="cls" * (route == "transformers"), route=route, arch=arch, options=options), {}
        )


def published(module, prefix):
    """A vision model's tensors under a published prefix, whatever the installed version calls them."""
    return {prefix + k.removeprefix("vision_model."): v for k, v in module.state_dict().items()}


@pytest.mark.parametrize("output", ["pooler_output", "patch_mean", "patch_mean@-2"])
@pytest.mark.parametrize("prefix", ["vision_model.", "model.vision_tower.vision_tower.vision_model."])
def test_transformers_siglip(batch, checkpoint, output, prefix):
    module = randomised(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION)))
    state = published(module, prefix) | {"text_model.weight": torch.ones(2), "logit_scale": torch.ones(())}
    loader = {"route": "transformers", "arch": "SiglipVisionModel", "options": VISION, "prefix": prefix}
    encoder = load_encoder(spec(24, output=output, **loader), checkpoint(state))

    def truth(pictures):
        result = module(pixel_values=pictures, output_hidden_states=True)
        if output == "pooler_output":
            return result.pooler_output
        return (result.hidden_states[-2] if "@" in output else result.last_hidden_state).mean(1)

    assert close(encoder.encode(batch), expected(module, batch, truth))


def test_transformers_output_that_the_class_does_not_give(batch, checkpoint):
    module = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION))
    loader = {"route": "transformers", "arch": "CLIPVisionModel", "options": VISION}
    encoder = load_encoder(spec(24, output="image_embeds", **loader), checkpoint(module.state_dict()))
    with pytest.raises(DiscernError, match=r"gives no 'image_embeds'[\s\S]*pooler_output"):
        encoder.encode(batch)


@pytest.mark.parametrize("gated", [False, True])
def test_transformers_converts_the_names_of_its_older_releases(batch, checkpoint, gated):
    options = DINO | {"use_swiglu_ffn": gated, "use_mask_token": False}
    module = randomised(transformers.Dinov2Model(transformers.Dinov2Config(**options)))
    state = {}
    for name, tensor in module.state_dict().items():
        if ".mlp.gate_proj." in name:
            other = module.state_dict()[name.replace("gate", "up")]
            state[name.replace("gate_proj", "weights_in")] = torch.cat([tensor, other])
        elif ".mlp.up_proj." not in name:
            name = name.replace(".mlp.down_proj.", ".mlp.weights_out.")
            for old, new in (("query", "q"), ("key", "k"), ("value", "v")):
                name = name.replace(f".attention.{new}_proj.", f".attention.attention.{old}.")
            state[name.replace(".attention.o_proj.", ".attention.output.dense.")] = tensor
    assert gated == any("weights_in" in name for name in state)
    loader = {"route": "transformers", "arch": "Dinov2Model", "options": options, "keys": "converted"}
    encoder = load_encoder(spec(48, output="cls_patch_mean", **loader), checkpoint(state))
    hidden = expected(module, batch, lambda p: module(pixel_values=p).last_hidden_state)
    assert close(encoder.encode(batch), np.concatenate([hidden[:, 0], hidden[:, 1:].mean(1)], axis=1))
    del state["encoder.layer.1.attention.attention.key.bias"]
    with pytest.raises(
        DiscernError, match=r"missing in the file \(encoder\.layer\.1\.attention\.k_proj\.bias"
    ):
        load_encoder(spec(48, output="cls_patch_mean", **loader), checkpoint(state))
    with pytest.raises(DiscernError, match=r"unknown to the encoder.*intruder"):
        load_encoder(
            spec(48, output="cls", **loader), checkpoint(module.state_dict() | {"intruder": torch.ones(2)})
        )


def test_transformers_clip_with_projection_takes_two_prefixes(batch, checkpoint):
    options = VISION | {"projection_dim": 16}
    module = randomised(transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**options)))
    state = dict(module.state_dict()) | {"text_model.weight": torch.ones(2)}
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]  # as old files have it
    loader = {"route": "transformers", "arch": "CLIPVisionModelWithProjection", "options": options}
    both = {"prefix": ["vision_model.", "visual_projection."], "output": "image_embeds"}
    encoder = load_encoder(spec(16, **loader, **both), checkpoint(state))
    truth = expected(module, batch, lambda p: module(pixel_values=p).image_embeds)
    assert close(encoder.encode(batch), truth)


def test_transformers_patches_begin_after_class_and_register_tokens(batch, checkpoint):
    options = DINO | {"num_register_tokens": 4}
    config = transformers.Dinov2WithRegistersConfig(**options)
    module = randomised(transformers.Dinov2WithRegistersModel(config))
    loader = {"route": "transformers", "arch": "Dinov2WithRegistersModel", "options": options}
    encoder = load_encoder(spec(24, output="patch_mean", **loader), checkpoint(module.state_dict()))
    hidden = expected(module, batch, lambda p: module(pixel_values=p).last_hidden_state)
    assert hidden.shape[1] == 1 + 4 + 16
    assert close(encoder.encode(batch), hidden[:, 5:].mean(1))


@pytest.mark.parametrize("arch", ["SiglipVisionModel", "CLIPVisionModel", "Dinov2Model"])
def test_transformers_missing_tensor_aborts(checkpoint, arch):
    kind = getattr(transformers, arch)
    options = DINO if arch == "Dinov2Model" else VISION
    state = published(kind(kind.config_class(**options)), "vision_model.")
    victim = next(k for k in state if "layernorm" in k.lower() or "norm1" in k)
    del state[victim]
    loader = {"route": "transformers", "arch": arch, "options": options, "prefix": "vision_model."}
    with pytest.raises(DiscernError, match=r"1 missing in the file"):
        load_encoder(spec(24, output="cls", **loader), checkpoint(state))


def graph(path, channels_last, fixed_batch):
    """Doubled picture -> mean over height and width -> sum over channels; three tensors to choose from."""
    rows = 1 if fixed_batch else "n"
    shape = [rows, SIZE, SIZE, 3] if channels_last else [rows, 3, SIZE, SIZE]
    nodes = [
        helper.make_node("Add", ["in", "in"], ["map:0"]),
        helper.make_node("ReduceMean", ["map:0", "axes"], ["pooled:0"], keepdims=0),
        helper.make_node("ReduceSum", ["pooled:0", "last"], ["out"], keepdims=1),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2] if channels_last else [2, 3]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
    ]
    entry = helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)
    end = helper.make_tensor_value_info("out", TensorProto.FLOAT, [rows, 1])
    body = helper.make_graph(nodes, "planted", [entry], [end], constants)
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return {path.name: path}


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("fixed_batch", [True, False])
@pytest.mark.parametrize("output", ["pooled:0", "map:0"])
def test_onnx_inner_tensor_in_either_layout(tmp_path, batch, channels_last, fixed_batch, output):
    weights = graph(tmp_path / "g.onnx", channels_last, fixed_batch)
    encoder = load_encoder(spec(3, route="onnx", output=output), weights)
    assert close(encoder.encode(batch), 2 * batch.mean(axis=(2, 3)))


def test_onnx_own_output_and_unknown_tensor(tmp_path, batch):
    weights = graph(tmp_path / "g.onnx", False, False)
    encoder = load_encoder(spec(1, route="onnx"), weights)
    assert close(encoder.encode(batch), 2 * batch.mean(axis=(2, 3)).sum(1, keepdims=True))
    with pytest.raises(DiscernError, match="no tensor 'pooled:1'; did you mean 'pooled:0'"):
        load_encoder(spec(3, route="onnx", output="pooled:1"), weights)


def test_pixels_are_their_own_feature():
    batch = np.arange(2 * SIZE * SIZE, dtype=np.float32).reshape(2, 1, SIZE, SIZE)
    assert np.array_equal(
        load_encoder(spec(SIZE**2, route="pixels"), {}).encode(batch).ravel(), batch.ravel()
    )


def test_another_length_than_the_card_says_is_refused(batch):
    with pytest.raises(DiscernError, match=r"shape \(3, 3072\), the card says \(3, 5\)"):
        load_encoder(spec(5, route="pixels"), {}).encode(batch)


def test_unknown_architecture_has_a_suggestion():
    with pytest.raises(DiscernError, match=r"no model 'resnet81'; did you mean.*'resnet18'"):
        load_encoder(spec(512, route="torchvision", arch="resnet81"), {})
    with pytest.raises(DiscernError, match=r"transformers .* has no model class 'SiglipTower'"):
        load_encoder(spec(512, route="transformers", arch="SiglipTower", output="cls"), {})


def test_a_light_route_imports_no_heavy_library():
    code = (
        "import json, sys; from discern.encoders.base import load_encoder;"
        "load_encoder(json.loads(sys.argv[1]), {});"
        "print([m for m in ('torch', 'timm', 'onnx', 'transformers', 'scipy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, json.dumps(spec(3072, route="pixels"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"
