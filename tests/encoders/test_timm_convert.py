"""``keys: converted``: timm's own converters take names of the authors' repositories."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from discern.encoders.base import load_encoder
from discern.errors import DiscernError

SIZE = 32
VIT = {"img_size": SIZE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
SWIN = {
    "img_size": SIZE,
    "patch_size": 2,
    "embed_dim": 24,
    "depths": (1, 1),
    "num_heads": (2, 2),
    "window_size": 4,
}


def dinov2(state):
    """As the DINOv2 repository saves: with the mask token of its training."""
    return state | {"mask_token": torch.ones(1, 24)}


def eva02(state):
    """As the EVA repository saves: its own names in the MLP, and buffers of the rotation."""
    result = {
        "rope.freqs_cos": torch.ones(2),
        "rope.freqs_sin": torch.ones(2),
        "mask_token": torch.ones(1, 1, 24),
    }
    for name, tensor in state.items():
        result[name.replace("fc1_g", "w1").replace("fc1_x", "w2").replace("mlp.norm", "mlp.ffn_ln")
               .replace("fc2", "w3").replace("attn.norm", "attn.inner_attn_ln")] = tensor  # fmt: skip
    return result


def swin(state):
    """As the Swin repository saves: a stage's reduction at its end, and the indices of its windows."""
    moved = {k.replace("layers.1.downsample", "layers.0.downsample"): v for k, v in state.items()}
    return moved | {
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.int64),
        "layers.1.blocks.0.attn_mask": torch.zeros(4, 16, 16),
    }


CASES = {
    "vit_small_patch14_dinov2": (dinov2, VIT),
    "eva02_tiny_patch14_224": (eva02, VIT),
    "swin_tiny_patch4_window7_224": (swin, SWIN),
}


def network(arch, options):
    torch.manual_seed(0)
    module = timm.create_model(arch, pretrained=False, num_classes=0, **options).eval()
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(-0.1, 0.2)
    return module


def loaded(tmp_path, arch, options, state, d=24, **loader):
    save_file({k: v.contiguous().clone() for k, v in state.items()}, tmp_path / "model.safetensors")
    options = options | {"num_classes": 0}
    spec = {
        "name": "planted",
        "loader": {"route": "timm", "arch": arch, "options": options, "keys": "converted", **loader},
        "preprocess": {"resize": "squash", "size": SIZE},
        "feature": {"name": "planted", "d": d, "output": ""},
    }
    return load_encoder(spec, {"model.safetensors": tmp_path / "model.safetensors"}, "cpu")


@pytest.mark.parametrize("prefix", ["", "teacher.backbone."])
@pytest.mark.parametrize("arch", CASES)
def test_names_of_the_authors_repositories(tmp_path, arch, prefix):
    published, options = CASES[arch]
    module = network(arch, options)
    state = {prefix + k: v for k, v in published(module.state_dict()).items()}
    encoder = loaded(tmp_path, arch, options, state, module.num_features, prefix=prefix)
    pictures = np.random.default_rng(0).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
    with torch.inference_mode():
        truth = module(torch.from_numpy(pictures)).numpy()
    assert np.allclose(encoder.encode(pictures), truth, atol=1e-5 * np.abs(truth).max())


def test_a_tensor_that_is_missing_after_the_conversion_aborts(tmp_path):
    module = network("vit_small_patch14_dinov2", VIT)
    state = dinov2(module.state_dict())
    del state["blocks.1.ls1.gamma"]
    with pytest.raises(DiscernError, match=r"1 missing in the file \(blocks\.1\.ls1\.gamma\)"):
        loaded(tmp_path, "vit_small_patch14_dinov2", VIT, state)


def test_resampled_positions_are_told(tmp_path, caplog):
    module = network("vit_small_patch14_dinov2", VIT | {"img_size": 48})
    loaded(tmp_path, "vit_small_patch14_dinov2", VIT, dinov2(module.state_dict()))
    assert "resampled or reshaped pos_embed" in caplog.text


def test_an_architecture_without_converter_says_so(tmp_path):
    module = timm.create_model("resnet10t", pretrained=False, num_classes=0)
    with pytest.raises(DiscernError, match="'resnet10t' has no converter"):
        loaded(tmp_path, "resnet10t", {}, module.state_dict(), 512)
