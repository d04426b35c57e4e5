"""Every container gives the same picture by the stated rule, and damage is named."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from discern.data import images
from discern.data.images import image_sha256, npz_array, open_rgb, pixel_digest, probe
from discern.errors import DiscernError

RNG = np.random.default_rng(0)


def pixels(path):
    return np.asarray(open_rgb(path))


def save(path, array):
    Image.fromarray(array).save(path)
    return path


def test_rgb_and_grey_keep_their_values(tmp_path):
    colour = RNG.integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(pixels(save(tmp_path / "c.png", colour)), colour)
    grey = colour[..., 0]
    assert np.array_equal(pixels(save(tmp_path / "g.png", grey)), np.repeat(grey[..., None], 3, 2))
    assert probe(tmp_path / "g.png") == (7, 5, "L")


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.array([[1000, 2000], [3000, 5000]], np.uint16), "a.png"),
        (np.array([[1000, 2000], [3000, 5000]], ">u2"), "a.tif"),
        (np.array([[-1000, 0], [1000, 3000]], np.int32), "a.tif"),
        (np.array([[-0.5, 0.0], [0.5, 1.5]], np.float32), "a.tif"),
    ],
)
def test_deep_greyscale_is_scaled_from_its_own_minimum_to_maximum(tmp_path, array, name):
    seen = pixels(save(tmp_path / name, array))
    assert seen[..., 0].tolist() == [[0, 64], [128, 255]]
    assert (seen == seen[..., :1]).all()


def test_constant_and_non_finite_deep_greyscale(tmp_path):
    assert not pixels(save(tmp_path / "k.png", np.full((3, 3), 777, np.uint16))).any()
    holes = np.array([[np.nan, 0], [np.inf, 2]], np.float32)
    assert pixels(save(tmp_path / "n.tif", holes))[..., 0].tolist() == [[0, 0], [0, 255]]


def test_one_bit(tmp_path):
    bits = np.array([[True, False], [False, True]])
    Image.fromarray(bits).save(tmp_path / "b.png")
    assert pixels(tmp_path / "b.png")[..., 2].tolist() == [[255, 0], [0, 255]]


def test_alpha_is_composited_onto_black(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]
    seen = pixels(save(tmp_path / "a.png", rgba))[0].tolist()
    assert seen[:2] == [[200, 100, 50], [0, 0, 0]]
    assert np.allclose(seen[2], [100, 50, 25], atol=1)


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 240, 230, 220])
    image.putdata([0, 1])
    image.save(tmp_path / "p.png")
    assert pixels(tmp_path / "p.png")[0].tolist() == [[10, 20, 30], [240, 230, 220]]
    image.save(tmp_path / "t.png", transparency=1)
    assert pixels(tmp_path / "t.png")[0].tolist() == [[10, 20, 30], [0, 0, 0]]
    assert probe(tmp_path / "t.png") == (2, 1, "P")


def test_cmyk(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    assert np.allclose(pixels(tmp_path / "c.jpg")[8, 8], [255, 0, 0], atol=3)


def test_exif_orientation_is_applied(tmp_path):
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, :8] = 255  # a white bar on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(wide).save(tmp_path / "e.jpg", exif=exif, quality=100)
    seen = pixels(tmp_path / "e.jpg")
    assert seen.shape == (32, 16, 3)
    assert seen[2].min() > 200
    assert seen[20:].max() < 50
    assert probe(tmp_path / "e.jpg")[:2] == (16, 32)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_truncated_file_is_named(tmp_path, suffix):
    path = save(tmp_path / f"whole.{suffix}", RNG.integers(0, 256, (64, 64, 3), np.uint8))
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (open_rgb, probe):
        with pytest.raises(DiscernError, match=rf"cut\.{suffix}: cannot be decoded(.|\n)*repair: .*drop"):
            read(cut)


def test_no_picture_and_absent_file(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(DiscernError, match=r"x\.png: cannot be decoded"):
        open_rgb(tmp_path / "x.png")
    with pytest.raises(DiscernError, match=r"y\.png: no such file"):
        open_rgb(tmp_path / "y.png")


def test_pictures_that_claim_too_many_pixels_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "big.png", np.zeros((20, 20), np.uint8))
    monkeypatch.setattr(images, "MAX_PIXELS", 399)
    with pytest.raises(DiscernError, match=r"big\.png: 20 x 20 pixels, more than 399"):
        open_rgb(path)


@pytest.fixture
def archive(tmp_path):
    grey = RNG.integers(0, 256, (3, 8, 8), np.uint8)
    colour = RNG.integers(0, 256, (2, 8, 8, 3), np.uint8)
    np.savez_compressed(tmp_path / "s.npz", train_images=grey, test_images=colour)
    return tmp_path, grey, colour


def test_npz_locators_are_read_like_files(archive):
    root, grey, colour = archive
    assert np.array_equal(pixels(root / "s.npz#train_images[2]")[..., 1], grey[2])
    assert np.array_equal(pixels(root / "s.npz#test_images[1]"), colour[1])
    assert probe(root / "s.npz#test_images[1]") == (8, 8, "RGB")
    assert image_sha256(root, "s.npz#train_images[2]") == hashlib.sha256(grey[2].tobytes()).hexdigest()
    assert npz_array(root / "s.npz", "train_images") is npz_array(root / "s.npz", "train_images")


def test_npz_mistakes_are_named(archive):
    root = archive[0]
    with pytest.raises(DiscernError, match=r"holds 3 images, none at 3"):
        open_rgb(root / "s.npz#train_images[3]")
    with pytest.raises(DiscernError, match=r"no array 'val_images'\n  allowed: train_images, test_images"):
        open_rgb(root / "s.npz#val_images[0]")
    (root / "d.npz").write_bytes((root / "s.npz").read_bytes()[:100])
    with pytest.raises(DiscernError, match=r"d\.npz: damaged npz archive"):
        npz_array(root / "d.npz", "train_images")


def test_pixel_digest_sees_pixels_and_shape_alone(tmp_path):
    array = RNG.integers(0, 256, (4, 6, 3), np.uint8)
    png, tif = save(tmp_path / "a.png", array), save(tmp_path / "a.tif", array)
    assert image_sha256(tmp_path, "a.png") != image_sha256(tmp_path, "a.tif")
    assert pixel_digest(open_rgb(png)) == pixel_digest(open_rgb(tif))
    turned = save(tmp_path / "b.png", array.reshape(6, 4, 3))
    assert pixel_digest(open_rgb(turned)) != pixel_digest(open_rgb(png))
