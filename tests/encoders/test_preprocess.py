"""The transform against torchvision, bit by bit, and its geometry on planted pictures."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from pydantic import ValidationError
from torchvision import transforms

from discern.encoders.describe import describe, pad_colour
from discern.encoders.preprocess import apply, apply_mask, view
from discern.errors import DiscernError
from discern.model_card import Preprocess

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
MODES = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}


def picture(width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("interpolation", list(MODES))
@pytest.mark.parametrize("size", [(96, 96), (333, 251), (251, 333), (100, 61), (224, 224), (57, 401)])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_equals_torchvision(resize, size, interpolation):
    image = picture(*size)
    target = 75 if resize == "shortest" else (75, 75)
    theirs = [
        transforms.Resize(target, interpolation=MODES[interpolation]),
        transforms.CenterCrop(64),
        transforms.ToTensor(),
    ]
    p = Preprocess(resize=resize, size=75, crop=64, interpolation=interpolation)
    assert np.array_equal(apply(image, p), transforms.Compose(theirs)(image).numpy())
    normalised = transforms.Compose([*theirs, transforms.Normalize(MEAN, STD)])(image).numpy()
    ours = apply(image, p.model_copy(update={"mean": MEAN, "std": STD}))
    assert ours.dtype == np.float32
    assert np.abs(ours - normalised).max() < 1e-6


def test_bgr_subtracts_each_mean_from_its_own_channel():
    p = Preprocess(resize="none", size=2, channels="bgr", scale=1, mean=[104, 117, 123])
    red = Image.new("RGB", (2, 2), (200, 0, 0))
    assert apply(red, p)[:, 0, 0].tolist() == [-104, -117, 200 - 123]


def test_grey_has_one_channel_and_is_seen_grey():
    p = Preprocess(resize="squash", size=4, interpolation="box", channels="grey")
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert apply(red, p).shape == (1, 4, 4)
    assert apply(red, p)[0, 0, 0] == pytest.approx(76 / 255)
    assert view(red, p).getpixel((0, 0)) == (76, 76, 76)


def test_pad_surrounds_the_picture_with_the_mean_colour():
    p = Preprocess(resize="pad", size=40, interpolation="nearest", mean=MEAN, std=STD)
    seen = np.asarray(view(Image.new("RGB", (40, 20), (255, 255, 255)), p))
    assert pad_colour(p) == (122, 116, 104)  # the numbers that LLaVA's code gives
    assert (seen[10:30] == 255).all()
    assert (seen[:10] == (122, 116, 104)).all()
    assert (seen[30:] == (122, 116, 104)).all()
    assert np.abs(apply(Image.new("RGB", (40, 20)), p)[:, 0, 0]).max() < 0.02


def test_pad_is_black_without_a_mean():
    p = Preprocess(resize="pad", size=9)
    assert apply(Image.new("RGB", (9, 3), (255, 255, 255)), p)[:, 0].max() == 0


def test_view_is_what_apply_scales():
    p = Preprocess(resize="shortest", size=50, crop=40)
    image = picture(90, 70)
    assert np.array_equal(np.asarray(view(image, p)), np.rint(apply(image, p).transpose(1, 2, 0) * 255))


@pytest.mark.parametrize("resize", ["shortest", "squash", "pad"])
def test_mask_follows_the_picture(resize):
    p = Preprocess(resize=resize, size=60, crop=50, interpolation="bilinear")
    inside = np.zeros((90, 120), bool)
    inside[30:60, 45:90] = True
    white_inside = Image.fromarray(np.repeat(inside[:, :, None], 3, axis=2).astype(np.uint8) * 255)
    seen = apply(white_inside, p)[0] > 0.5
    frame = apply_mask(inside, p)
    assert frame.dtype == bool
    assert frame.shape == (50, 50)
    assert (frame != seen).mean() < 0.03
    assert np.array_equal(frame, apply_mask(white_inside, p))


def test_padding_is_outside_the_mask():
    p = Preprocess(resize="pad", size=20, mean=[1, 1, 1])
    assert apply_mask(np.ones((10, 20), bool), p).sum() == 200


def test_a_picture_that_does_not_fit_is_refused():
    with pytest.raises(DiscernError, match=r"30 x 30 px.*takes 20 x 20"):
        apply(picture(30, 30), Preprocess(resize="none", size=20))
    with pytest.raises(DiscernError, match="takes 80 x 80"):
        apply(picture(30, 30), Preprocess(resize="squash", size=40, crop=80))


def test_a_palette_picture_is_resized_in_colour():
    image = picture(64, 64).quantize(16)
    p = Preprocess(resize="squash", size=20, interpolation="bilinear")
    assert np.array_equal(apply(image, p), apply(image.convert("RGB"), p))


def test_describe_names_every_step():
    p = Preprocess(resize="shortest", size=256, crop=224, channels="bgr", scale=1, mean=[104, 117, 123])
    assert describe(p) == (
        "8-bit RGB; shortest side to 256 px (bicubic); centre crop 224 px; "
        "channels in BGR order; minus (104, 117, 123)"
    )


# ------------------------------------------------------------------------ resize of float pixels

FLOAT = {"precision": "float32", "scale": 255.0}
SIZES = [(96, 96), (333, 251), (251, 333), (1000, 61), (57, 401), (3, 2), (1, 1)]


@pytest.mark.parametrize("interpolation", list(MODES))
@pytest.mark.parametrize("size", SIZES)
def test_float_resize_equals_torchvision_on_tensors(size, interpolation):
    image = picture(*size)
    tensor = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1) / 255
    resize = transforms.Resize((48, 64), MODES[interpolation], antialias=True)
    p = Preprocess(resize="squash", size=(48, 64), interpolation=interpolation, **FLOAT)
    ours = apply(image, p)
    assert ours.shape == (3, 48, 64)
    # torch computes its weights in float32; in float64 both agree to the last bit of float32.
    assert np.abs(ours - resize(tensor).numpy()).max() < 2e-5
    assert np.abs(ours - resize(tensor.double()).numpy()).max() < 2e-7


@pytest.mark.parametrize("size", SIZES)
def test_resize_without_antialiasing_equals_torch(size):
    image = picture(*size)
    tensor = torch.from_numpy(np.array(image, np.float64)).permute(2, 0, 1)[None] / 255
    theirs = torch.nn.functional.interpolate(tensor, (48, 64), mode="bilinear", antialias=False)[0]
    p = Preprocess(resize="squash", size=(48, 64), interpolation="bilinear", antialias=False, **FLOAT)
    assert np.abs(apply(image, p) - theirs.numpy()).max() < 2e-5


@pytest.mark.parametrize(
    ("size", "digest"), [((333, 251), "95ee2368bc5525d4"), ((57, 401), "86a51b5245d8a64a")]
)
def test_truncated_bilinear_is_that_of_tensorflow(size, digest):
    """Digests of tf.image.resize(..., antialias=False).numpy().astype("uint8"), TensorFlow 2.21.0."""
    p = Preprocess(resize="squash", size=448, interpolation="bilinear", antialias=False)
    seen = np.asarray(view(picture(*size), p))
    assert hashlib.sha256(seen.tobytes()).hexdigest().startswith(digest)


def test_antialiasing_is_left_out_only_where_that_is_defined():
    with pytest.raises(ValidationError, match="antialias: false goes with bilinear"):
        Preprocess(resize="squash", size=8, interpolation="bicubic", antialias=False)


# ------------------------------------------------------------------------------- other geometries


@pytest.mark.parametrize("size", [(120, 80), (80, 120), (97, 31), (64, 64), (500, 3)])
def test_canvas_has_black_on_the_right_and_at_the_bottom(size):
    white = Image.new("RGB", size, (255, 255, 255))
    p = Preprocess(resize="canvas", size=64, interpolation="bilinear", **FLOAT)
    width, height = (max(1, int(side / (max(size) / 64))) for side in size)
    pixels = apply(white, p)
    assert pixels.shape == (3, 64, 64)
    assert (np.abs(pixels[:, :height, :width] - 1) < 1e-6).all()
    assert pixels[:, height:].sum() == pixels[:, :, width:].sum() == 0
    inside = apply_mask(np.ones(size[::-1], bool), p)
    assert inside.sum() == height * width
    assert inside[:height, :width].all()
    assert np.asarray(view(white, p))[:height, :width].min() == 255


def test_a_mask_follows_its_picture_to_a_rectangle():
    inside = np.zeros((90, 120), bool)
    inside[30:60, 45:90] = True
    p = Preprocess(resize="squash", size=(60, 20), interpolation="bilinear")
    frame = apply_mask(inside, p)
    assert frame.shape == p.input_size == (60, 20)
    white = Image.fromarray(np.repeat(inside[:, :, None], 3, axis=2).astype(np.uint8) * 255)
    assert (frame != (apply(white, p)[0] > 0.5)).mean() < 0.03
    assert view(white, p).size == (20, 60)


def test_pad_may_be_black_whatever_the_mean():
    p = Preprocess(resize="pad", size=40, fill="black", interpolation="nearest", mean=MEAN, std=STD)
    assert np.asarray(view(Image.new("RGB", (40, 20), (255, 255, 255)), p))[:10].max() == 0


def test_stretch_gives_each_picture_its_own_range():
    p = Preprocess(resize="none", size=8, stretch=True)
    dull = Image.fromarray(np.random.default_rng(0).integers(90, 120, (8, 8, 3), dtype=np.uint8))
    assert (apply(dull, p).min(), apply(dull, p).max()) == (0, 1)
    assert not apply(Image.new("RGB", (8, 8), (70, 70, 70)), p).any()


def test_grey_of_float_pixels_is_that_of_8_bits():
    p = Preprocess(resize="squash", size=16, interpolation="bilinear", channels="grey")
    image = picture(50, 40)
    fine = apply(image, p.model_copy(update={"precision": "float32"}))
    assert fine.shape == (1, 16, 16)
    assert np.abs(fine - apply(image, p)).max() < 1.5 / 255


def test_visionunite_wraps_as_its_authors_arithmetic():
    """Black and white in one channel: 255 - 0 + 1 is 0 in 8 bits, and HSV sees two dark pixels."""
    image = Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)).resize((2, 2))
    p = Preprocess(prepare="visionunite", resize="none", size=2, scale=1)
    assert apply(image, p)[2].max() == 1
    photo = picture(60, 40)
    enhanced = np.asarray(ImageEnhance.Contrast(photo).enhance(1.3)).astype(int)
    shifted = ((enhanced - enhanced.min(axis=(0, 1)) + 1) % 256).astype(np.uint8)
    hsv = np.asarray(Image.fromarray(shifted).convert("HSV")).transpose(2, 0, 1)
    whole = p.model_copy(update={"size": (40, 60)})
    assert np.array_equal(apply(photo, whole), hsv)
    assert np.abs(np.asarray(view(photo, whole)).astype(int) - shifted).max() <= 8  # HSV has 8 bits too


def test_describe_tells_resizes_apart():
    def words(**fields):
        return describe(Preprocess(size=64, interpolation="bilinear", **fields))

    texts = [
        words(resize="squash"),
        words(resize="squash", precision="float32"),
        words(resize="squash", antialias=False),
        words(resize="squash", antialias=False, precision="float32"),
        words(resize="canvas"),
        words(resize="pad", mean=MEAN),
        words(resize="pad", mean=MEAN, fill="black"),
        words(resize="none", prepare="visionunite"),
        words(resize="none", stretch=True),
    ]
    assert len(set(texts)) == len(texts)
    assert "0.48145466" in texts[5]  # exact, not rounded
