"""Every card's transform against the official one of its library, on pictures of every kind.

``TRANSFORMS`` says for each model which official transform its card equals, and how closely. Libraries that
resize before they convert to RGB get the RGB picture: that moment is ours by choice, and the same for
all models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision.transforms as T
import transformers
from PIL import Image, ImageEnhance

from discern.encoders.describe import describe
from discern.encoders.preprocess import apply
from tests.parity.harness import CARDS, images, record

BILINEAR, BICUBIC = T.InterpolationMode.BILINEAR, T.InterpolationMode.BICUBIC
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DERM1M = ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OPENAI = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
MAMMOGRAMS = ((0.3089279,) * 3, (0.25053555408335154,) * 3)

Transform = Callable[[Image.Image], object]


@dataclass(frozen=True)
class Theirs:
    """An official transform of RGB pictures and how far ours may be from it, in units of the input."""

    make: Callable[[], Transform]
    library: str
    tolerance: float = 0.0  # 0: bit-equal


# The official side -------------------------------------------------------------------------------


def torchvision_resize(resize, crop, interpolation, statistics) -> Theirs:
    """Compose of Resize, CenterCrop, ToTensor and Normalize on Pillow pictures."""

    def make() -> Transform:
        cut = [T.CenterCrop(crop)] if crop else []
        scale = [T.ToTensor(), T.Normalize(*statistics)]
        return T.Compose([T.Resize(resize, interpolation), *cut, *scale])

    return Theirs(make, "torchvision")


def open_clip_transform(size, statistics=OPENAI, mode="shortest") -> Theirs:
    """open_clip's transform for evaluation; its default resize is bicubic."""

    def make() -> Transform:
        return open_clip.image_transform(size, False, *statistics, resize_mode=mode)

    return Theirs(make, "open_clip")


def timm_transform(name) -> Theirs:
    """timm's transform for evaluation of a named network, by that network's own configuration."""

    def make() -> Transform:
        config = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        return timm.data.create_transform(**config, is_training=False)

    return Theirs(make, "timm")


def processor(kind, **options) -> Theirs:
    """An image processor of transformers, the variant that works on Pillow pictures."""

    def make() -> Transform:
        process = getattr(transformers, kind)(**options)
        return lambda image: process(image, return_tensors="np")["pixel_values"][0]

    return Theirs(make, f"transformers {kind}")


def clip_processor(side, kind="CLIPImageProcessorPil", **options) -> Theirs:
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return processor(kind, **sizes, resample=3, **options)


def siglip_processor(side, resample, kind="SiglipImageProcessorPil") -> Theirs:
    statistics = {"image_mean": list(HALF[0]), "image_std": list(HALF[1])}
    return processor(kind, size={"height": side, "width": side}, resample=resample, **statistics)


def flair() -> Transform:
    """The sequence of calls of FLAIR's inference: float tensor, Resize by a factor, pad by functional."""

    def transform(image: Image.Image) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None] / 255
        height, width = tensor.shape[-2:]
        factor = max(height, width) / 512
        small = T.Resize((max(1, int(height / factor)), max(1, int(width / factor))), antialias=True)(tensor)
        right, below = 512 - small.shape[-1], 512 - small.shape[-2]
        return torch.nn.functional.pad(small, (0, right, 0, below))[0]

    return transform


def tensor_resize(antialias) -> Callable[[], Transform]:
    """ViLa-MIL: ToTensor before the resize."""
    return lambda: T.Compose(
        [T.ToTensor(), T.Resize((224, 224), antialias=antialias), T.Normalize(*IMAGENET)]
    )


def visionunite() -> Transform:
    """VisionUnite's demo: contrast, each channel less its minimum plus one in 8 bits, HSV, then Compose."""
    after = T.Compose([T.Resize(448, BICUBIC), T.CenterCrop(448), T.ToTensor(), T.Normalize(*HALF)])

    def transform(image: Image.Image) -> torch.Tensor:
        pixels = np.array(ImageEnhance.Contrast(image).enhance(1.3)).astype(int)
        for channel in range(3):
            plane = pixels[..., channel]
            pixels[..., channel] = (plane - plane.min() + 1) % 256
        return after(Image.fromarray(pixels.astype("uint8")).convert("HSV"))

    return transform


def mammo_clip(height, width) -> Callable[[], Transform]:
    """Resize, the picture's own range to 0..1, then the statistics of the training mammograms."""

    def transform(image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
        pixels = pixels - pixels.min()
        pixels = pixels / pixels.max() if pixels.max() else pixels
        mean, std = (np.array(values, np.float32) for values in MAMMOGRAMS)
        return ((pixels - mean) / std).transpose(2, 0, 1)

    return lambda: transform


def between_nearest() -> Transform:
    """torch's bilinear without antialiasing, truncated to 8 bits, then half and half."""

    def transform(image: Image.Image) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(tensor, (448, 448), mode="bilinear", antialias=False)
        return (small[0].floor() / 255 - 0.5) / 0.5

    return transform


def whole_view() -> Transform:
    """LLaVA 1.6's first view: Pillow's own default resize to a square, then CLIP's processor."""
    process = clip_processor(336).make()
    return lambda image: process(image.resize((336, 336)))


def black_square() -> Transform:
    """MedSigLIP's serving code: np.pad with zeros, half before and half behind, then SigLIP's processor."""
    process = siglip_processor(448, resample=3).make()

    def transform(image: Image.Image) -> object:
        pixels = np.asarray(image)
        missing = [max(pixels.shape[:2]) - side for side in pixels.shape[:2]]
        widths = [(n // 2, n - n // 2) for n in missing]
        return process(Image.fromarray(np.pad(pixels, [*widths, (0, 0)])))

    return transform


TRANSFORMS = {
    "biomedclip": open_clip_transform(224),
    "chief": torchvision_resize(224, 224, BILINEAR, IMAGENET),
    "clip_b16": open_clip_transform(224),
    "clip_dr": torchvision_resize((256, 256), 224, BILINEAR, IMAGENET),
    "clip_g14": open_clip_transform(224),
    "clip_l14": open_clip_transform(224),
    "conceptclip": siglip_processor(384, resample=3),
    "conch": torchvision_resize(448, 448, BICUBIC, OPENAI),
    "cxr_clip": torchvision_resize(224, 224, BILINEAR, HALF),
    "cxr_clip@r50_mcc": torchvision_resize(224, 224, BILINEAR, IMAGENET),
    "dermlip": torchvision_resize(256, 224, BILINEAR, DERM1M),
    "dermlip@zero_shot_transform": open_clip_transform(224),
    "dinov2": torchvision_resize(256, 224, BICUBIC, IMAGENET),
    "eva02": open_clip_transform(336),
    # torch computes the weights of the resize in float32, Pillow in float64.
    "flair": Theirs(flair, "torchvision on float32 tensors", 5e-5),
    "keepfit": Theirs(flair, "torchvision on float32 tensors", 5e-5),
    "llava": clip_processor(336, "LlavaImageProcessorPil", do_pad=True),
    "llava@v1_6": Theirs(whole_view, "Pillow's resize and transformers CLIPImageProcessorPil"),
    "llava_med": clip_processor(336, "LlavaImageProcessorPil", do_pad=True),
    "llava_med_pp": clip_processor(1008, "LlavaImageProcessorPil", do_pad=True),
    "llava_med_pp@single_scale": clip_processor(336, "LlavaImageProcessorPil", do_pad=True),
    # As the authors' evaluation code; their README names transformers' processor, one pixel off, see below.
    "llm2clip": torchvision_resize(336, 336, BICUBIC, OPENAI),
    "llm2clip@openai_b16": torchvision_resize(224, 224, BICUBIC, OPENAI),
    "make": open_clip_transform(224),
    "mammo_clip": Theirs(mammo_clip(1520, 912), "the authors' steps on Pillow pictures", 1e-6),
    "mammo_clip@half_size": Theirs(mammo_clip(760, 456), "the authors' steps on Pillow pictures", 1e-6),
    "medgemma": siglip_processor(896, resample=2, kind="Gemma3ImageProcessorPil"),
    "medsiglip": siglip_processor(448, resample=2),
    # A last bit becomes a grey level when truncated; test_preprocess has TensorFlow's own, bit by bit.
    "medsiglip@tf_bilinear": Theirs(between_nearest, "torch without antialiasing, truncated", 2.01 / 255),
    "medsiglip@zero_pad": Theirs(black_square, "numpy.pad and transformers SiglipImageProcessorPil"),
    "monet": torchvision_resize(224, 224, BICUBIC, IMAGENET),
    "resnet50": torchvision_resize(256, 224, BILINEAR, IMAGENET),
    "resnet50@v2": torchvision_resize(232, 224, BILINEAR, IMAGENET),
    "siglip": open_clip_transform(384, HALF, "squash"),
    "siglip@base": open_clip_transform(224, HALF, "squash"),
    "uni": torchvision_resize(224, 224, BILINEAR, IMAGENET),
    "unimedclip": open_clip_transform(336),
    "unimedclip@vit_b16": open_clip_transform(224),
    "vgg16": torchvision_resize(256, 224, BILINEAR, IMAGENET),
    "vila_mil": Theirs(tensor_resize(False), "torchvision on float32 tensors", 5e-5),
    "vila_mil@antialiased": Theirs(tensor_resize(True), "torchvision on float32 tensors", 5e-5),
    "visionunite": Theirs(visionunite, "Pillow and torchvision, as the authors' demo"),
    "vit_l16": timm_transform("vit_large_patch16_224.augreg_in21k_ft_in1k"),
    "vit_l16@torchvision_v1": torchvision_resize(242, 224, BILINEAR, IMAGENET),
    "vit_l16@torchvision_swag": torchvision_resize(224, 224, BICUBIC, IMAGENET),
}


# Ours --------------------------------------------------------------------------------------------


def pictures() -> dict[str, Image.Image]:
    """Photographs, then one picture of every mode and awkward size."""
    square, wide = images()
    return {
        "photograph": wide,
        "tall": wide.transpose(Image.Transpose.ROTATE_90).crop((0, 0, 150, 451)),
        "small": wide.resize((51, 33)),
        "tiny": Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)),
        "sliver": wide.crop((100, 100, 351, 103)),
        "grey": square.convert("L").crop((0, 0, 301, 260)),
        "palette": wide.quantize(64),
        "transparent": wide.convert("RGBA"),
        "one colour": Image.new("RGB", (90, 61), (200, 30, 90)),
        "black": Image.new("L", (60, 80)),
    }


@pytest.mark.parametrize("model", TRANSFORMS)
def test_transform_is_the_official_one(model):
    theirs = TRANSFORMS[model]
    official, largest = theirs.make(), {}
    for kind, picture in pictures().items():
        expected = np.asarray(official(picture.convert("RGB")), dtype=np.float32)
        found = apply(picture, CARDS[model].transform)
        assert found.dtype == np.float32
        assert found.shape == expected.shape, kind
        largest[kind] = float(np.abs(found - expected).max())
    assert max(largest.values()) <= theirs.tolerance, {k: v for k, v in largest.items() if v}
    card = CARDS[model]
    record(model, "transform", theirs.library, None, card.feature.d, 0, pixels=max(largest.values()))


def test_transformers_cuts_one_pixel_beside_torchvision():
    """A half pixel goes down there and to the even number here; that is the whole difference."""
    process = clip_processor(224).make()
    shifted = 0
    for height in (260, 261, 262, 263):
        picture = images()[1].crop((0, 0, 224, height)).resize((224, height))
        ours = apply(picture, CARDS["clip_l14"].transform)
        theirs = process(picture)
        shift = round((height - 224) / 2) - (height - 224) // 2
        lower = apply(
            picture.transform(picture.size, 0, (1, 0, 0, 0, 1, -shift)), CARDS["clip_l14"].transform
        )
        assert np.abs(lower - theirs).max() < 1e-6
        shifted += int(not np.allclose(ours, theirs))
    assert shifted == 1  # (263 - 224) / 2 = 19.5


def test_every_published_model_has_its_official_transform_here():
    """Features and variants too, where they see another picture than their model does."""
    wanted = set()
    for name in CARDS.selectable():
        card = CARDS[name]
        if card.preprocess is None or card.weights.kind == "package" or card.group in ("control", "own"):
            continue
        same = [describe(CARDS[m].transform) for m in TRANSFORMS if m.split("@")[0] == name.split("@")[0]]
        if describe(card.transform) not in same:
            wanted.add(name)
    assert not wanted
