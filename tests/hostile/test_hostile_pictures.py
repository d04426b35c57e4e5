"""Pictures and scans that are damaged, or larger than they look: the preparation names them."""

import functools
import io
import struct
import zlib

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from discern.data.pictures.images import decode
from discern.decoding_card import Decoding
from discern.errors import DiscernError
from tests.hostile.bounds import guarded, scratch, tried
from tests.hostile.values import damaged
from tests.survived import survived

COUNT = {"tried": 0}


@functools.cache
def sound(kind):
    """The bytes of a real small file of each format."""
    grey = np.random.default_rng(0).integers(0, 255, (24, 20), dtype=np.uint8)
    if kind == "nii.gz":
        return nibabel.Nifti1Image(np.zeros((6, 5, 4), np.int16), np.eye(4)).to_bytes()
    sink = io.BytesIO()
    Image.fromarray(grey).save(sink, format=kind)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "bmp", "gif", "webp"])
@settings(max_examples=tried(25))
@given(data=st.data())
def test_damaged_pictures(kind, data):
    with scratch() as folder, guarded():
        COUNT["tried"] += 1
        file = folder / f"x.{kind}"
        file.write_bytes(data.draw(damaged(sound(kind))))
        decode(file, Decoding())


def png(width, height, body):
    """A PNG that claims a size."""

    def part(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(body)) + part(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("width", "height"), [(2**31 - 1, 2**31 - 1), (200_000, 200_000), (2**31 - 1, 1), (0, 0), (1, 2**31 - 1)]
)
def test_pictures_that_claim_a_size(tmp_path, width, height):
    """Gigabytes of pixels in a file of bytes: refused by their number, before memory is taken."""
    (tmp_path / "x.png").write_bytes(png(width, height, bytes(1000)))
    with pytest.raises(DiscernError):
        decode(tmp_path / "x.png", Decoding())
    survived("pictures: damaged, and decompression bombs", tried=COUNT["tried"] + 5, losses=0)
    COUNT["tried"] = 0
