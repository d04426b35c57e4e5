"""The short way of decoding JPEG files: the same pictures as the ordinary one, or none at all."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from discern.data.pictures.images import STANDARD, decode
from discern.data.preparation.plain_jpeg import decode_plain
from discern.errors import DiscernError

LIMIT = 10**7


def picture(size=(61, 47), mode="RGB"):
    values = np.random.default_rng(sum(size)).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).convert(mode)


def jpeg(image=None, **options):
    file = io.BytesIO()
    (image or picture()).save(file, "JPEG", **options)
    return file.getvalue()


def segment(marker, content):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def with_segment(data, marker, content):
    return data[:2] + segment(marker, content) + data[2:]


def ordinary(data):
    """Picture and mode, or what is wrong."""
    try:
        image, mode = decode("x.jpg", STANDARD, data)
    except DiscernError as error:
        return str(error)
    return image.tobytes(), image.size, mode


def plain(data):
    found = decode_plain(data, LIMIT)
    if found is None:
        return None
    image, mode = found
    assert image.mode == "RGB"
    assert image.info == {}
    return image.tobytes(), image.size, mode


PLAIN = {
    "usual": jpeg(),
    "best": jpeg(quality=100, subsampling=0),
    "worst": jpeg(quality=1, subsampling=2),
    "grey": jpeg(picture(mode="L")),
    "progressive": jpeg(picture((400, 300)), progressive=True, optimize=True),
    "large": jpeg(picture((900, 1100)), quality=98),  # more than Pillow reads at once
    "one pixel": jpeg(picture((1, 1))),
    "comment": jpeg(comment=b"a word"),
    "profile": jpeg(icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
    "restarts": jpeg(restart_marker_blocks=2),
    "bytes after the end": jpeg() + b"and more",
    "colours not mixed": jpeg(keep_rgb=True).replace(b"\xff\xee", b"\xff\xfe", 1),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_give_the_same_picture(name):
    assert plain(PLAIN[name]) == ordinary(PLAIN[name])


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(exif=exif)


FRAME = jpeg().index(b"\xff\xc0")
OTHERS = {
    "turned": turned(),
    "four colours": jpeg(picture(mode="CMYK")),
    "told by Adobe": with_segment(jpeg(), 0xEE, b"Adobe\0\x64\0\0\0\0\0"),
    "other notes": with_segment(jpeg(), 0xED, b"Photoshop 3.0\0"),
    "several pictures": with_segment(jpeg(), 0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"),
    "not a JPEG": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "nothing": b"",
    "half": jpeg()[:400],
    "no end": jpeg(picture((200, 200)))[:-300],
    "twelve bits": jpeg()[: FRAME + 4] + b"\x0c" + jpeg()[FRAME + 5 :],
    "no height": jpeg()[: FRAME + 5] + b"\0\0" + jpeg()[FRAME + 7 :],
    "short tables": with_segment(jpeg(), 0xDB, bytes(30)),
    "short head": with_segment(jpeg(), 0xE0, b"JFIF\0"),
    "header alone": jpeg()[: jpeg().index(b"\xff\xda") + 14],
    "two frames": with_segment(jpeg(), 0xC0, jpeg()[FRAME + 4 : FRAME + 19]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_all_others_are_left_to_the_ordinary_way(name):
    assert plain(OTHERS[name]) is None


def test_large_pictures_are_left_to_the_ordinary_way(monkeypatch):
    assert decode_plain(jpeg(), 61 * 47 - 1) is None
    assert decode_plain(jpeg(), 61 * 47) is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert decode_plain(jpeg(), LIMIT) is None


def test_damage_is_never_passed_over():
    """Wherever bytes are wrong: what the short way decodes, the ordinary one decodes to the same pixels."""
    random = np.random.default_rng(0)
    whole = [jpeg(), jpeg(progressive=True), jpeg(picture(mode="L"), restart_marker_blocks=1)]
    decoded = 0
    for turn in range(1500):
        data = bytearray(whole[turn % 3])
        head = data.index(b"\xff\xda") if turn % 2 else len(data)  # every other time only the header
        for place in random.integers(2, head, 1 + turn % 3):
            data[place] = random.integers(256)
        if turn % 5 == 0:
            del data[random.integers(2, len(data)) :]
        found = plain(bytes(data))
        if found is not None:
            decoded += 1
            assert found == ordinary(bytes(data))
    assert decoded > 300
