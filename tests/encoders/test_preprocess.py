"""The transform against torchvision, bit by bit, and its geometry on planted pictures."""

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from discern.encoders.preprocess import apply, apply_mask, describe, pad_colour, view
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
