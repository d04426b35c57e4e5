"""CT-CLIP and Merlin: networks, published names and sizes.

Merlin's package runs in an environment of its own (full run). CT-CLIP's modules are on no package index, so
its names and shapes are written down here once more, from the published layout.
"""

import copy
import subprocess
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from discern.encoders.base import load_encoder
from discern.encoders.networks import ct_clip, merlin
from discern.environments import build
from discern.errors import DiscernError
from tests.parity.harness import (
    CARDS,
    random_tensor,
    randomised,
    record,
    relative_difference,
    write_torch,
)

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"layers": [1, 2, 1, 1], "width": 8}
TINY = {"width": 32, "codes": 64, "shape": [24, 48, 32], "patch": [4, 8, 8], "depth": 2, "heads": 4,
        "head_width": 8, "latent": 16}  # fmt: skip


def spec_of(model, **options):
    """The card's extraction spec with other options; d as the network gives it."""
    spec = copy.deepcopy(CARDS[model].extraction_spec())
    spec["loader"]["options"] |= options
    return spec


def volumes(shape, seed=0):
    return np.random.default_rng(seed).random((2, 1, *shape), np.float32)


def size_of(model):
    """d and parameters of the card's full architecture, on the meta device."""
    card = CARDS[model]
    spec = card.extraction_spec()
    spec["loader"] |= {"keys": "random", "seed": 0}
    with torch.device("meta"):
        encoder = load_encoder(spec, {}, "meta")
        result = encoder.forward(torch.empty(1, 1, *card.volume.size))
    return result.shape[1], sum(p.numel() for p in encoder.module.parameters())


def tensors(module):
    return {name: tuple(t.shape) for name, t in module.state_dict().items()}


def refuses(spec, state, name, folder):
    with pytest.raises(DiscernError) as refused:
        load_encoder(spec, write_torch(state, folder), "cpu")
    assert name in str(refused.value)


# Merlin -----------------------------------------------------------------------------------------------


def merlin_file(module):
    """A file as published: trunk, both heads, text tower, logit scale."""
    trunk = "encode_image.i3_resnet."
    wide = module.state_dict()["contrastive_head.weight"].shape[1]
    generator = torch.Generator().manual_seed(1)
    return {
        **{trunk + k: v for k, v in module.state_dict().items()},
        trunk + "classifier.weight": random_tensor("weight", (1692, wide, 1, 1, 1), generator),
        trunk + "classifier.bias": random_tensor("bias", (1692,), generator),
        "encode_text.linear_layer.bias": torch.zeros(512),
        "logit_scale": torch.ones(()),
    }


@pytest.fixture(scope="module")
def small_merlin():
    return randomised(merlin.build(**SMALL, contrastive_d=16))


@pytest.mark.parametrize(("feature", "d"), [("pooled", 256), ("contrastive", 16)])
def test_merlin_loads_both_features_from_the_published_layout(small_merlin, feature, d, tmp_path):
    options = SMALL | ({"contrastive_d": 16} if feature == "contrastive" else {})
    spec = spec_of(f"merlin@{feature}", **options)
    spec["feature"]["d"] = d
    state = merlin_file(small_merlin)
    encoder = load_encoder(spec, write_torch(state, tmp_path), "cpu")
    x = volumes((64, 48, 32))
    theirs = small_merlin(torch.from_numpy(x))
    if feature == "contrastive":
        theirs = small_merlin.contrastive(torch.from_numpy(x))
    assert relative_difference(encoder.encode(x), theirs.numpy()) == 0
    fewer = {k: v for k, v in state.items() if not k.endswith("layer3.0.bn2.running_var")}
    refuses(spec, fewer, "layer3.0.bn2.running_var", tmp_path)
    refuses(spec, state | {"encode_image.i3_resnet.intruder": torch.ones(1)}, "intruder", tmp_path)


def test_merlin_of_equal_slices_is_the_picture_network_that_it_was_inflated_from():
    """All weight in the middle tap: every slice then goes through torchvision's ResNet alone."""
    flat = randomised(
        torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, SMALL["layers"], width_per_group=64)
    )
    ours = merlin.build(SMALL["layers"])
    state = {}
    for name, tensor in ours.state_dict().items():
        published = flat.state_dict()[name]
        if tensor.ndim == 5:
            tensor = torch.zeros_like(tensor)
            tensor[:, :, tensor.shape[2] // 2] = published
            published = tensor
        state[name] = published
    ours.load_state_dict(state)
    picture = torch.rand(2, 1, 32, 64, generator=torch.Generator().manual_seed(0))
    flat.fc = torch.nn.Identity()
    theirs = flat(picture.expand(-1, 3, -1, -1)).numpy()
    mine = ours.eval()(picture.unsqueeze(-1).expand(-1, -1, -1, -1, 32)).numpy()
    assert relative_difference(mine, theirs) <= 1e-5


def test_merlin_size():
    card = CARDS["merlin"]
    assert size_of("merlin") == (card.feature.d, card.params) == (2048, 117_366_208)
    assert size_of("merlin@contrastive") == (512, 117_366_208 + 2048 * 512 + 512)
    with torch.device("meta"):
        assert len(merlin.build().state_dict()) == 930  # those of the published image trunk
    record("merlin", "structural", "published names and sizes", None, card.feature.d, card.params)


#: Runs in the authors' environment: their ImageEncoder with random weights, and their volume transform.
OFFICIAL = """
import sys, numpy as np, torch, torchvision
folder = sys.argv[1]
full = torchvision.models.resnet152
torchvision.models.resnet152 = lambda pretrained: full(weights=None)  # the package would download weights
from merlin.data.monai_transforms import ImageTransforms
from merlin.models.build import ImageEncoder
state = torch.load(folder + "/state.pt", weights_only=True)
trunk = "encode_image."
image = {k.removeprefix(trunk): v for k, v in state.items() if k.startswith(trunk)}
x = torch.from_numpy(np.load(folder + "/volumes.npy"))
results = {}
for name, embedding in (("pooled", True), ("contrastive", False)):
    encoder = ImageEncoder(ImageEmbedding=embedding)
    encoder.load_state_dict(image)
    with torch.no_grad():
        out = encoder.eval()(x)
    results[name] = (out[0] if embedding else out[0]).numpy()
results["transformed"] = np.asarray(ImageTransforms({"image": folder + "/scan.nii.gz"})["image"])
np.savez(folder + "/official.npz", **results)
"""


@pytest.mark.full
def test_merlin_equals_the_authors_package(tmp_path_factory, tmp_path):
    import nibabel

    from discern.data.pictures.volumes import open_volume
    from discern.encoders.volumes import apply

    card = CARDS["merlin"]
    lock = tmp_path_factory.mktemp("merlin_official") / "lock.txt"
    build(ROOT / "envs" / "merlin_official.yaml", lock)
    state = merlin_file(randomised(merlin.build(contrastive_d=512)))
    files = write_torch(state, tmp_path, "state.pt")
    x = volumes((96, 64, 48))
    np.save(tmp_path / "volumes.npy", x)
    noise = np.random.default_rng(0).integers(-1500, 1500, (90, 101, 40)).astype(np.int16)
    affine = np.array([[0, -1.1, 0, 30], [0.9, 0, 0, 2], [0, 0, 2.5, 1], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(noise, affine), tmp_path / "scan.nii.gz")
    command = [lock.parent / "bin" / "python", "-c", OFFICIAL, tmp_path]
    subprocess.run([str(part) for part in command], check=True, cwd=tmp_path)
    official = np.load(tmp_path / "official.npz")
    figures = {}
    for feature in card.features:
        encoder = load_encoder(card.selected(feature.name).extraction_spec(), files, "cpu")
        theirs = official[feature.name].reshape(2, -1)
        figures[feature.name] = relative_difference(encoder.encode(x), theirs)
    voxels = np.abs(
        apply(*open_volume(tmp_path / "scan.nii.gz"), card.volume) - official["transformed"]
    ).max()
    assert max(figures.values()) <= 1e-4, figures
    assert voxels <= 1e-5
    record(
        "merlin",
        "official",
        card.parity.against,
        max(figures.values()),
        2048,
        card.params,
        True,
        float(voxels),
    )


# CT-CLIP ----------------------------------------------------------------------------------------------


def published_layout(width, codes, shape, patch, depth, heads, head_width, latent):
    """Name -> shape of every tensor of the image side of a CT-CLIP file, written down by hand."""
    inner, feed = heads * head_width, int(width * 8 / 3)
    voxels = {"to_patch_emb": prod(patch), "to_patch_emb_first_frame": patch[1] * patch[2]}
    visual = {}
    for name, n in voxels.items():
        visual |= {f"{name}.1.weight": (n,), f"{name}.1.bias": (n,), f"{name}.2.weight": (width, n)}
        visual |= {f"{name}.{part}": (width,) for part in ("2.bias", "3.weight", "3.bias")}
    position = {"0.0": (width, 2), "1.0": (width, width), "2": (heads, width)}
    for name, size in position.items():
        visual |= {
            f"spatial_rel_pos_bias.net.{name}.weight": size,
            f"spatial_rel_pos_bias.net.{name}.bias": size[:1],
        }
    layer = {
        "0.dsconv.weight": (width, 1, 3, 3, 3), "0.dsconv.bias": (width,),
        "1.null_kv": (heads, 0, head_width), "1.q_scale": (head_width,), "1.k_scale": (head_width,),
        "1.norm.gamma": (width,), "1.norm.beta": (width,),
        "1.context_norm.gamma": (width,), "1.context_norm.beta": (width,),
        "1.to_q.weight": (inner, width), "1.to_kv.weight": (2 * inner, width),
        "1.to_out.weight": (width, inner), "3.0.weight": (width,), "3.0.bias": (width,),
        "3.1.weight": (2 * feed, width), "3.4.weight": (width, feed),
    }  # fmt: skip
    for kind in ("spatial", "temporal"):
        base = f"enc_{kind}_transformer."
        visual |= {f"{base}layers.{i}.{k}": v for i in range(depth) for k, v in layer.items()}
        visual |= {base + "norm_out.gamma": (width,), base + "norm_out.beta": (width,)}
    codebook = {"initted": (1,), "cluster_size": (1, codes), "embed": (1, codes, width)}
    visual |= {f"vq._codebook.{k}": v for k, v in codebook.items()}
    pixels = {"to_pixels_first_frame": patch[1] * patch[2], "to_pixels": prod(patch)}
    for name, n in pixels.items():
        visual |= {f"{name}.0.weight": (n, width), f"{name}.0.bias": (n,)}
    cells = (shape[1] // patch[1]) * (shape[2] // patch[2])
    return {f"visual_transformer.{k}": v for k, v in visual.items()} | {
        "to_visual_latent.weight": (latent, cells * width)
    }


FULL = {"width": 512, "codes": 8192, "shape": (240, 480, 480), "patch": (10, 20, 20), "depth": 4, "heads": 8,
        "head_width": 32, "latent": 512}  # fmt: skip


def test_ct_clip_size_and_names():
    card = CARDS["ct_clip"]
    layout = published_layout(**FULL)
    assert len(layout) == 157 + 1
    with torch.device("meta"):
        module = ct_clip.build()
    assert tensors(module) == {k: v for k, v in layout.items() if ".to_pixels" not in k}
    assert size_of("ct_clip") == (card.feature.d, card.params) == (512, 174_627_944)
    assert size_of("ct_clip@token_mean") == (512, 174_627_944 - 294_912 * 512)
    record("ct_clip", "structural", card.parity.against, None, card.feature.d, card.params)


@pytest.fixture(scope="module")
def ct_clip_file():
    generator = torch.Generator().manual_seed(2)
    layout = published_layout(**TINY)
    state = {k: random_tensor(k, v, generator) if 0 not in v else torch.zeros(v) for k, v in layout.items()}
    return state | {
        "to_visual_latent_extra.weight": torch.ones(2, 2),
        "text_transformer.embeddings.position_ids": torch.arange(5)[None],
        "temperature": torch.ones(()),
    }


@pytest.mark.parametrize(("feature", "d"), [("visual_latent", 16), ("token_mean", 32)])
def test_ct_clip_loads_both_features_from_the_published_layout(ct_clip_file, feature, d, tmp_path):
    spec = spec_of(f"ct_clip@{feature}")
    spec["loader"]["options"] = TINY | spec["loader"]["options"]
    spec["feature"]["d"] = d
    features = load_encoder(spec, write_torch(ct_clip_file, tmp_path), "cpu").encode(volumes(TINY["shape"]))
    assert np.isfinite(features).all()
    assert np.abs(features[0] - features[1]).max() > 1e-3
    for name in ("enc_temporal_transformer.layers.1.1.to_kv.weight", "vq._codebook.embed"):
        fewer = {k: v for k, v in ct_clip_file.items() if k != "visual_transformer." + name}
        refuses(spec, fewer, name, tmp_path)
    more = ct_clip_file | {"visual_transformer.enc_spatial_transformer.layers.2.intruder": torch.ones(1)}
    refuses(spec, more, "intruder", tmp_path)


def test_ct_clip_by_its_parts(ct_clip_file):
    """Patches, position bias and quantiser against plain loops."""
    module = ct_clip.build(**TINY)
    state = {k: v for k, v in ct_clip_file.items() if k in module.state_dict()}
    module.load_state_dict(state)
    visual = module.visual_transformer
    x = torch.from_numpy(volumes(TINY["shape"]))
    patches = visual._patches(x)
    assert patches.shape == (2, 6, 6, 4, 256)
    assert torch.equal(patches[1, 2, 3, 1], x[1, 0, 8:12, 24:32, 8:16].flatten())
    bias = visual.spatial_rel_pos_bias(6, 4)
    for query, key in ((0, 23), (7, 7), (21, 2)):
        distance = torch.tensor([query // 4 - key // 4, query % 4 - key % 4]).float()
        wanted = visual.spatial_rel_pos_bias.net(distance.sign() * (distance.abs() + 1).log())
        assert torch.allclose(bias[:, query, key], wanted, atol=1e-6)
    vectors = torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
    codes = ct_clip_file["visual_transformer.vq._codebook.embed"][0]
    nearest = torch.nn.functional.cosine_similarity(vectors[:, None], codes[None], dim=-1).argmax(dim=1)
    assert torch.equal(visual.vq(vectors), codes[nearest])


def test_ct_clip_sees_no_later_slab_in_space():
    """The first transformer's position convolution is causal: a later slab changes nothing before it."""
    convolution = randomised(ct_clip.PositionConvolution(8))
    x = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[2:] += 1
    before, after = convolution(x, (1, 4, 2, 3)), convolution(changed, (1, 4, 2, 3))
    assert torch.equal(before[:2], after[:2])
    assert not torch.allclose(before[2:], after[2:])
