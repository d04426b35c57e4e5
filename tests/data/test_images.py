"""Every container gives the same picture by the stated rule, and damage is named."""

import struct

import numpy as np
import pytest
from PIL import Image
from written_pictures import chunk, full_range, png16, tiff

from discern.data.pictures.images import Pictures, decode, frames_of, image_sha256, pixel_digest
from discern.decoding_card import Decoding
from discern.errors import DiscernError

RNG = np.random.default_rng(0)
FULL = Decoding(window="full_range")


def pixels(path, **rule):
    image, _ = decode(path, Decoding(**rule))
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(path, **rule):
    seen = pixels(path, **rule)
    assert (seen == seen[..., :1]).all()
    return seen[..., 0]


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def about(path, rule=None):
    image, mode = decode(path, rule or Decoding())
    return (*image.size, mode)


@pytest.mark.parametrize(
    "name", ["c.png", "c.bmp", "c.tif", "c.webp", "c.jp2", "c.ppm", "C.PNG", "c (1) [2].png"]
)
def test_8_bit_keeps_its_values_whatever_the_window(tmp_path, name):
    colour = RNG.integers(0, 100, (5, 7, 3), np.uint8)
    options = {"lossless": True} if name.endswith("webp") else {}
    path = save(tmp_path / name, colour, **options)
    assert np.array_equal(pixels(path), colour)
    assert np.array_equal(pixels(path, window={"low": 0, "high": 10}), colour)
    assert about(path) == (7, 5, "RGB")


def test_8_bit_grey(tmp_path):
    values = RNG.integers(50, 100, (5, 7), np.uint8)
    for name in ("g.png", "g.tif", "g.bmp", "g.gif", "g.pgm", "g.jp2"):
        assert np.array_equal(grey(save(tmp_path / name, values), window="min_max"), values), name
    assert about(tmp_path / "g.png") == (7, 5, "L")


def test_jpeg_is_near(tmp_path):
    ramp = np.repeat(np.arange(0, 256, 8, np.uint8)[None], 32, 0)
    assert abs(grey(save(tmp_path / "g.jpg", ramp, quality=95)).astype(int) - ramp).max() < 6


@pytest.mark.parametrize(
    ("array", "name", "mode"),
    [
        (np.array([[1000, 2000], [3000, 5000]], np.uint16), "a.png", "I;16"),
        (np.array([[1000, 2000], [3000, 5000]], ">u2"), "a.tif", "I;16B"),
        (np.array([[-1000, 0], [1000, 3000]], np.int32), "a.tif", "I"),
        (np.array([[-0.5, 0.0], [0.5, 1.5]], np.float32), "a.tif", "F"),
        (np.array([[1000, 2000], [3000, 5000]], np.uint16), "a.jp2", "I;16"),
    ],
)
def test_deep_greyscale_is_scaled_from_its_own_minimum_to_maximum(tmp_path, array, name, mode):
    path = save(tmp_path / name, array)
    assert grey(path).tolist() == [[0, 64], [128, 255]]
    assert about(path) == (2, 2, mode)


GREYS = RNG.integers(0, 65536, (6, 5), np.uint16)
SIGNED = (GREYS.astype(int) - 32768).astype(np.int16)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
    "values", [GREYS, SIGNED, (SIGNED.astype(np.int32) * 65537)], ids=lambda v: v.dtype.name
)
def test_full_range_of_tiff_is_that_of_its_type(tmp_path, values, order, deflate):
    wanted = full_range(GREYS.astype(float))
    assert (
        abs(grey(tiff(tmp_path / "a.tif", values, order, deflate), window="full_range") - wanted).max() <= 1
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
def test_floats_of_tiff(tmp_path, order, deflate):
    values = RNG.normal(size=(4, 6)).astype(np.float32)
    wanted = np.round((values - values.min()) / (values.max() - values.min()) * 255)
    assert abs(grey(tiff(tmp_path / "a.tif", values, order, deflate)) - wanted).max() <= 1


def test_tiff_of_unsigned_32_bits_signed_8_bits_and_white_zero(tmp_path):
    wide = GREYS.astype(np.uint32) * 65537
    assert abs(grey(tiff(tmp_path / "w.tif", wide), window="full_range") - full_range(GREYS)).max() <= 1
    small = np.array([[-128, 0, 127]], np.int8)
    assert grey(tiff(tmp_path / "s.tif", small), window="full_range").tolist() == [[0, 128, 255]]
    white = tiff(tmp_path / "z.tif", GREYS, t262=0)
    assert np.array_equal(grey(white, window="full_range"), 255 - full_range(GREYS))


def test_pgm_is_windowed_by_its_own_values(tmp_path):
    values = np.array([[0, 100], [2000, 4095]], ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 4095\n" + values.tobytes())
    assert grey(tmp_path / "a.pgm", window={"low": 100, "high": 2000}).tolist() == [[0, 0], [255, 255]]
    assert grey(tmp_path / "a.pgm", window="full_range").tolist() == [[0, 6], [125, 255]]


DEEP = RNG.integers(0, 65536, (5, 7, 4), np.uint16)


def test_16_bit_colour_png_is_read_in_full(tmp_path):
    path = png16(tmp_path / "c.png", DEEP[..., :3] // 100 + 1000)
    values = (DEEP[..., :3] // 100 + 1000).astype(float)
    wanted = np.round((values - values.min()) / (values.max() - values.min()) * 255)
    assert np.array_equal(pixels(path, window="min_max"), wanted)
    assert np.array_equal(pixels(path, window="full_range"), full_range(values))
    assert about(path) == (7, 5, "RGB;16")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
def test_16_bit_colour_tiff_is_read_in_full(tmp_path, order, deflate):
    colour = tiff(tmp_path / "c.tif", DEEP[..., :3], order, deflate)
    assert np.array_equal(pixels(colour, window="full_range"), full_range(DEEP[..., :3]))
    narrow = tiff(tmp_path / "n.tif", DEEP[..., :3] % 100, order, deflate)
    seen = pixels(narrow, window={"low": 0, "high": 99})
    assert np.array_equal(seen, np.round(DEEP[..., :3] % 100 / 99 * 255))
    fourth = tiff(tmp_path / "x.tif", DEEP, order, deflate, t338=0)
    assert np.array_equal(pixels(fourth, window="full_range"), full_range(DEEP[..., :3]))


def test_16_bit_with_alpha(tmp_path):
    colour = png16(tmp_path / "c.png", DEEP)
    share = np.round(DEEP[..., 3:] / 257) / 255
    assert abs(pixels(colour, window="full_range") - full_range(DEEP[..., :3]) * share).max() <= 1
    ignored = pixels(colour, window="full_range", transparency="ignore")
    assert np.array_equal(ignored, full_range(DEEP[..., :3]))
    both = np.array([[[0, 65535], [300, 65535], [65535, 0]]], np.uint16)
    grey_alpha = png16(tmp_path / "g.png", both)
    assert grey(grey_alpha, window={"low": 0, "high": 300}).tolist() == [[0, 255, 0]]
    assert grey(grey_alpha, window={"low": 0, "high": 300}, transparency="white").tolist() == [[0, 255, 255]]
    assert about(grey_alpha) == (3, 1, "LA;16")


def test_16_bit_with_a_transparent_colour(tmp_path):
    key = chunk(b"tRNS", struct.pack(">H", 5000))
    path = png16(tmp_path / "k.png", np.array([[1000, 5000, 5001]], np.uint16), key)
    assert grey(path).tolist() == [[0, 0, 255]]
    assert grey(path, transparency="white").tolist() == [[0, 255, 255]]
    key = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    path = png16(tmp_path / "c.png", np.array([[[1, 2, 3], [1, 2, 4], [65535] * 3]], np.uint16), key)
    assert pixels(path, transparency="white").tolist() == [[[255] * 3, [0] * 3, [255] * 3]]


@pytest.mark.parametrize("deflate", [False, True])
def test_what_pillow_would_cut_to_8_bits_is_refused(tmp_path, deflate):
    planes = tiff(tmp_path / "p.tif", DEEP[..., :3], deflate=deflate, planar=True)
    with pytest.raises(DiscernError, match=r"p\.tif: TIFF of 16 bits a channel in separate planes"):
        decode(planes)
    inks = tiff(tmp_path / "i.tif", DEEP, deflate=deflate, t262=5)
    with pytest.raises(
        DiscernError, match=r"i\.tif: TIFF of more than 8 bits(.|\n)*repair: state window: full_range"
    ):
        decode(inks)
    assert about(inks, FULL) == (7, 5, "CMYK")
    (tmp_path / "c.ppm").write_bytes(b"P6 7 5 65535\n" + DEEP[..., :3].astype(">u2").tobytes())
    with pytest.raises(DiscernError, match=r"c\.ppm: PPM of more than 8 bits"):
        decode(tmp_path / "c.ppm")
    assert abs(pixels(tmp_path / "c.ppm", window="full_range") - full_range(DEEP[..., :3])).max() <= 1


def test_8_bit_tiff_in_planes(tmp_path):
    colour = RNG.integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(pixels(tiff(tmp_path / "p.tif", colour, planar=True)), colour)


def test_one_bit(tmp_path):
    for name in ("b.png", "b.tif", "b.bmp"):
        assert grey(save(tmp_path / name, np.array([[True, False], [False, True]]))).tolist() == [
            [255, 0],
            [0, 255],
        ]


def test_alpha(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]
    for name in ("a.png", "a.tif", "a.webp"):
        path = save(tmp_path / name, rgba, **({"lossless": True, "exact": True} if "webp" in name else {}))
        assert np.allclose(pixels(path)[0], [[200, 100, 50], [0, 0, 0], [100, 50, 25]], atol=1), name
        white = [[200, 100, 50], [255, 255, 255], [227, 177, 152]]
        assert np.allclose(pixels(path, transparency="white")[0], white, atol=1), name
        assert pixels(path, transparency="ignore")[0].tolist() == [[200, 100, 50]] * 3, name


def test_grey_with_alpha(tmp_path):
    path = save(tmp_path / "a.png", np.array([[[80, 255], [80, 0]]], np.uint8))
    assert about(path) == (2, 1, "LA")
    assert grey(path).tolist() == [[80, 0]]
    assert grey(path, transparency="white").tolist() == [[80, 255]]
    assert grey(path, transparency="ignore").tolist() == [[80, 80]]


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 240, 230, 220])
    image.putpixel((1, 0), 1)
    for suffix in ("png", "gif", "tif", "bmp"):
        image.save(tmp_path / f"p.{suffix}")
        assert pixels(tmp_path / f"p.{suffix}")[0].tolist() == [[10, 20, 30], [240, 230, 220]], suffix
    for suffix in ("png", "gif"):
        image.save(tmp_path / f"t.{suffix}", transparency=1)
        assert pixels(tmp_path / f"t.{suffix}")[0].tolist() == [[10, 20, 30], [0, 0, 0]]
        assert pixels(tmp_path / f"t.{suffix}", transparency="white")[0].tolist() == [[10, 20, 30], [255] * 3]
        ignored = pixels(tmp_path / f"t.{suffix}", transparency="ignore")[0].tolist()
        assert ignored == [[10, 20, 30], [240, 230, 220]]
    assert about(tmp_path / "t.png") == (2, 1, "P")
    assert decode(tmp_path / "t.png")[0].info == {}


def test_inks(tmp_path):
    """CMYK is stored inverted in JPEG, as Adobe does; with YCCK the inks are YCbCr besides."""
    for name, options in (("c.jpg", {"quality": 100}), ("c.tif", {})):
        Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / name, **options)
        assert np.allclose(pixels(tmp_path / name)[8, 8], [255, 0, 0], atol=3)
        assert about(tmp_path / name) == (16, 16, "CMYK")
    # Red as Y, Cb, Cr in place of the inks, and the transform that ends Adobe's marker set to YCCK.
    Image.new("CMYK", (16, 16), (76, 85, 255, 0)).save(tmp_path / "y.jpg", quality=100, subsampling=0)
    stored = bytearray((tmp_path / "y.jpg").read_bytes())
    stored[stored.index(b"Adobe") + 11] = 2
    (tmp_path / "y.jpg").write_bytes(bytes(stored))
    assert np.allclose(pixels(tmp_path / "y.jpg")[8, 8], [255, 0, 0], atol=4)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["e.jpg", "e.png", "e.tif", "e.webp", "deep.png", "deep.tif"])
def test_exif_orientation_is_applied(tmp_path, name, turn):
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8] = 255  # a mark in the upper left corner
    undo = [
        lambda a: a, np.fliplr, lambda a: a[::-1, ::-1], np.flipud, lambda a: a.T,
        lambda a: np.rot90(a, 1), lambda a: np.rot90(a, 2).T, lambda a: np.rot90(a, -1),
    ]  # fmt: skip
    stored = np.ascontiguousarray(undo[turn - 1](upright))
    exif = Image.Exif()
    exif[0x0112] = turn
    values = stored.astype(np.uint16) * 200 if name.startswith("deep") else stored
    save(tmp_path / name, values, exif=exif)
    assert abs(grey(tmp_path / name).astype(int) - upright).max() < 40
    again = decode(tmp_path / name)[0]
    assert again.getexif().get(0x0112, 1) == 1  # nobody turns it once more


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_do_not_make_the_pixels_worse(tmp_path):
    values = RNG.integers(0, 256, (8, 8, 3), np.uint8)
    path = save(tmp_path / "e.png", values, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(pixels(path), values)


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_frames(tmp_path, suffix):
    path = tmp_path / f"f.{suffix}"
    frames = [Image.new("RGB", (6, 4), (k * 40, 0, 0)) for k in range(4)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert frames_of(path) == 4
    red = {rule: int(pixels(path, frames=rule)[0, 0, 0]) for rule in ("first", "middle", "all", 0, 1, 3)}
    assert red == {"first": 0, "middle": 80, "all": 0, 0: 0, 1: 40, 3: 120}
    assert pixels(f"{path}#frame[3]")[0, 0, 0] == 120
    assert frames_of(f"{path}#frame[3]") == 1
    for bad in (lambda: decode(path, Decoding(frames=4)), lambda: decode(f"{path}#frame[4]")):
        with pytest.raises(DiscernError, match=rf"f\.{suffix}.*: holds 4 frames, counted from 0, none at 4"):
            bad()
    digests = {image_sha256(f"{path}#frame[{k}]") for k in range(4)} | {image_sha256(path)}
    assert len(digests) == 5


def test_deep_frames(tmp_path):
    frames = [Image.fromarray(np.array([[0, 10, 20 + k]], np.uint16)) for k in range(3)]
    frames[0].save(tmp_path / "f.tif", save_all=True, append_images=frames[1:])
    for k in range(3):
        assert grey(f"{tmp_path}/f.tif#frame[{k}]").tolist() == [[0, round(10 / (20 + k) * 255), 255]]


def test_a_picture_of_one_frame(tmp_path):
    path = save(tmp_path / "one.jpg", np.zeros((4, 4), np.uint8))
    assert frames_of(path) == 1
    assert pixels(path, frames="middle").shape == (4, 4, 3)
    with pytest.raises(DiscernError, match=r"one\.jpg: holds 1 frames"):
        decode(path, Decoding(frames=1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp", "jp2"])
def test_truncated_file_is_named(tmp_path, suffix):
    path = save(tmp_path / f"whole.{suffix}", RNG.integers(0, 256, (64, 64, 3), np.uint8))
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DiscernError, match=rf"cut\.{suffix}: cannot be decoded(.|\n)*repair: .*drop"):
        decode(cut)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty, 0 bytes"),
        (bytes(900), "the file begins with zeros"),
        (b"\n <!DOCTYPE HTML><html><body>Sign in</body></html>", "it is a web page"),
        (b"\xef\xbb\xbf<html>", "it is a web page"),
        (b'{"message": "Unauthorized"}', "it is text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "it is a pointer of Git LFS"),
        (b"PK\x03\x04rest", "it is a zip archive"),
        (bytes(128) + b"DICM" + bytes(50), "it is DICOM"),
        (b"no picture", "cannot identify image file"),
    ],
)
def test_what_a_download_left_is_told(tmp_path, content, what):
    (tmp_path / "x.jpg").write_bytes(content)
    for read in (decode, lambda path: frames_of(path.rename(path.with_suffix(".png")))):
        with pytest.raises(DiscernError, match=rf"x\.(jpg|png): cannot be decoded \({what}(.|\n)*repair: "):
            read(tmp_path / "x.jpg")


def test_absent_files(tmp_path):
    for read in (decode, frames_of):
        for name in ("y.png", "y", "y.npz#a[0]", "y.parquet#a[0]"):
            with pytest.raises(DiscernError, match=r"no such file"):
                read(tmp_path / name)


def test_pictures_that_claim_too_many_pixels_are_refused(tmp_path):
    path = save(tmp_path / "big.png", np.zeros((20, 20), np.uint8))
    assert pixels(path, max_pixels=400).shape == (20, 20, 3)
    with pytest.raises(
        DiscernError, match=r"big\.png: 20 x 20 pixels, more than 399(.|\n)*decoding.max_pixels"
    ):
        decode(path, Decoding(max_pixels=399))


def test_a_decompression_bomb_is_not_decoded(tmp_path):
    path = save(tmp_path / "bomb.png", np.zeros((1, 1), np.uint8))
    stored = path.read_bytes()
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    path.write_bytes(stored[:8] + chunk(b"IHDR", head) + stored[33:])
    with pytest.raises(DiscernError, match=r"bomb\.png: .*900000000.*, more than 89478485"):
        decode(path)


def test_readers_that_start_programs_are_not_asked(tmp_path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(DiscernError, match="cannot identify"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize("values", [[0, 1], [0, 255], [0, 127], [0, 128], [0, 65535], [0, 300], [0, 0]])
def test_masks(tmp_path, values):
    deep = max(values) > 255
    save(tmp_path / "m.png", np.array([values], np.uint16 if deep else np.uint8))
    inside = max(values) == 1 or max(values) >= 128
    seen = Pictures(tmp_path, tmp_path / "made").mask("m.png")
    assert seen.tolist() == [[False, inside]]


def test_paths_of_made_pictures(tmp_path):
    save(tmp_path / "m.png", np.full((2, 2), 9, np.uint8))
    (tmp_path / "root").mkdir()
    store = Pictures.of(
        {"root": str(tmp_path / "root"), "made": str(tmp_path), "decoding": {"transparency": "white"}}
    )
    assert np.asarray(store.open("made:m.png")).max() == 9
    assert store.sha256("made:m.png") == image_sha256(tmp_path / "m.png")
    assert store.decoding.transparency == "white"
    with pytest.raises(DiscernError, match=r"root/m\.png: no such file"):
        store.open("m.png")


def test_pixel_digest_sees_pixels_and_shape_alone(tmp_path):
    array = RNG.integers(0, 256, (4, 6, 3), np.uint8)
    png, tif = save(tmp_path / "a.png", array), save(tmp_path / "a.tif", array)
    assert image_sha256(png) != image_sha256(tif)
    assert pixel_digest(decode(png)[0]) == pixel_digest(decode(tif)[0])
    turned = save(tmp_path / "b.png", array.reshape(6, 4, 3))
    assert pixel_digest(decode(turned)[0]) != pixel_digest(decode(png)[0])
