"""Pictures inside npz archives and Parquet files are read like files, and what is kept is bounded."""

import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from discern.data.pictures import containers
from discern.data.pictures.containers import Recent, file_behind, npz_array, parquet_bytes, split_frame
from discern.data.pictures.images import decode, frames_of, image_sha256
from discern.data.pictures.suspects import explained
from discern.decoding_card import Decoding
from discern.errors import DiscernError

RNG = np.random.default_rng(0)


def pixels(path, **rule):
    return np.asarray(decode(path, Decoding(**rule))[0])


def encoded(array, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("a/b (1).png", "a/b (1).png"),
        ("a/b.npz#x[3]", "a/b.npz"),
        ("a/b.NPZ#x", "a/b.NPZ"),
        ("a/b.parquet#image[3]", "a/b.parquet"),
        ("a/b.parquet#image[3]#frame[1]", "a/b.parquet"),
        ("a#1/b.tif#frame[12]", "a#1/b.tif"),
        ("case#3.png", "case#3.png"),
        ("a/b.npz#0.png", "a/b.npz#0.png"),
    ],
)
def test_the_file_behind_a_locator(path, file):
    assert str(file_behind(path)) == file


def test_frames_are_outermost():
    assert split_frame("a.parquet#image[3]#frame[1]") == ("a.parquet#image[3]", 1)
    assert split_frame("a.npz#frames[3]") == ("a.npz#frames[3]", None)


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
    assert decode(root / "s.npz#test_images[1]")[1] == "RGB"
    assert image_sha256(root / "s.npz#train_images[2]") == hashlib.sha256(grey[2].tobytes()).hexdigest()
    assert npz_array(root / "s.npz", "train_images") is npz_array(root / "s.npz", "train_images")
    assert frames_of(root / "s.npz#train_images[2]") == 1


def test_an_archive_that_is_fetched_again_is_read_again(archive):
    root, grey, _ = archive
    assert np.array_equal(npz_array(root / "s.npz", "train_images"), grey)
    np.savez(root / "s.npz", train_images=grey[:1])
    assert np.array_equal(npz_array(root / "s.npz", "train_images"), grey[:1])


def test_an_array_may_be_one_picture(tmp_path):
    thickness = np.array([[-2, 86.0], [np.nan, 350]], np.float32)
    np.savez(tmp_path / "data_0001.npz", rnflt=thickness, glaucoma=1)
    path = tmp_path / "data_0001.npz#rnflt"
    assert pixels(path, window={"low": -2, "high": 350})[..., 0].tolist() == [[0, 64], [0, 255]]
    assert decode(path)[1] == "F"
    with pytest.raises(DiscernError, match=r"data_0001\.npz#glaucoma: array \(\) of int64 is no picture"):
        decode(tmp_path / "data_0001.npz#glaucoma")


@pytest.mark.parametrize(
    ("array", "first", "mode"),
    [
        (np.array([[False, True]]), [[0] * 3, [255] * 3], "1"),
        (np.array([[[7], [9]]], np.uint8), [[7] * 3, [9] * 3], "L"),
        (np.array([[[7, 9]]], np.uint8), [[7] * 3, [9] * 3], "L"),  # channel first
        (np.array([[[1, 2, 3, 255], [1, 2, 3, 0]]], np.uint8), [[1, 2, 3], [0, 0, 0]], "RGBA"),
        (np.array([[[0, 10, 40]]], np.int64), [[0, 64, 255]], "RGB;I"),
        (np.array([[0, 500], [250, 1000]], np.uint16), [[0] * 3, [128] * 3], "I;16"),
        (np.array([[[0.0, 0.5, 1.0]]]), [[0, 128, 255]], "RGB;F"),
        (np.array([[0, 1]], np.float16), [[0] * 3, [255] * 3], "F"),
    ],
)
def test_arrays_of_every_kind(tmp_path, array, first, mode):
    np.savez(tmp_path / "a.npz", x=array)
    image, seen = decode(tmp_path / "a.npz#x")
    assert (np.asarray(image)[0].tolist(), seen) == (first, mode)


def test_three_planes_may_come_first(tmp_path):
    colour = RNG.integers(0, 256, (3, 6, 5), np.uint8)
    np.savez(tmp_path / "a.npz", x=colour)
    assert np.array_equal(pixels(tmp_path / "a.npz#x"), np.moveaxis(colour, 0, -1))


@pytest.mark.parametrize(
    "array", [np.zeros(4), np.zeros((2, 8, 8, 3)), np.zeros((9, 8, 7)), np.zeros((4, 4), complex)]
)
def test_arrays_that_are_no_picture(tmp_path, array):
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(DiscernError, match=r"a\.npz#x: array .* is no picture(.|\n)*allowed: \(H, W\)"):
        decode(tmp_path / "a.npz#x")


def test_npz_mistakes_are_named(archive):
    root = archive[0]
    with pytest.raises(DiscernError, match=r"holds 3 images, none at 3"):
        decode(root / "s.npz#train_images[3]")
    with pytest.raises(DiscernError, match=r"no array 'val_images'\n  allowed: train_images, test_images"):
        decode(root / "s.npz#val_images[0]")
    with pytest.raises(DiscernError, match=r"8 x 8 pixels, more than 60"):
        decode(root / "s.npz#train_images[0]", Decoding(max_pixels=60))
    (root / "d.npz").write_bytes((root / "s.npz").read_bytes()[:100])
    with pytest.raises(DiscernError, match=r"^\S+d\.npz: damaged npz archive"):
        decode(root / "d.npz#train_images[0]")


@pytest.fixture
def table(tmp_path):
    """Seven pictures in row groups of three, as bytes and as records."""
    pictures = [RNG.integers(0, 256, (6, 5, 3), np.uint8) for _ in range(7)]
    stored = [encoded(p) for p in pictures]
    columns = {
        "image": pa.array([{"bytes": b, "path": f"{i}.png"} for i, b in enumerate(stored)]),
        "raw data": pa.array(stored, pa.large_binary()),
        "label": pa.array(range(7)),
        "few": pa.array([stored[0], None, *stored[2:]]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=3)
    return tmp_path / "t.parquet", pictures, stored


@pytest.mark.parametrize("column", ["image", "raw data"])
def test_parquet_locators_are_read_like_files(table, column):
    file, pictures, stored = table
    for row in (0, 2, 3, 6, 1):
        assert np.array_equal(pixels(f"{file}#{column}[{row}]"), pictures[row])
    assert image_sha256(f"{file}#{column}[4]") == hashlib.sha256(stored[4]).hexdigest()


def test_only_the_row_group_and_the_bytes_are_read(table, monkeypatch):
    file, _, stored = table
    fresh = Recent(containers.KEPT)
    monkeypatch.setattr(containers, "_groups", fresh)
    assert [parquet_bytes(file, "image", row) for row in (3, 4, 5)] == stored[3:6]
    (slot,) = fresh._slots.values()
    assert slot.value.type == pa.struct({"bytes": pa.binary()})
    assert len(slot.value) == 3


def test_frames_inside_parquet(tmp_path):
    first, second = (np.full((4, 4), v, np.uint8) for v in (10, 200))
    movie = encoded(first, "TIFF", save_all=True, append_images=[Image.fromarray(second)])
    pq.write_table(pa.table({"image": [movie]}), tmp_path / "t.parquet")
    assert frames_of(tmp_path / "t.parquet#image[0]") == 2
    assert pixels(f"{tmp_path}/t.parquet#image[0]#frame[1]").max() == 200
    assert pixels(f"{tmp_path}/t.parquet#image[0]", frames=1).max() == 200


def test_parquet_mistakes_are_named(table):
    file = table[0]
    for locator, what in {
        f"{file}#image[7]": r"^\S+t\.parquet: holds 7 rows, none at 7",
        f"{file}#picture[0]": r"has no column 'picture'\n  allowed: image, raw data, label, few",
        f"{file}#label[0]": r"column 'label' has type int64\n  allowed: bytes",
        f"{file}#few[1]": r"few holds no bytes in row 1",
    }.items():
        with pytest.raises(DiscernError, match=what):
            decode(locator)
    cut = file.with_name("cut.parquet")
    cut.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DiscernError, match=r"^\S+cut\.parquet: damaged Parquet file"):
        decode(f"{cut}#image[0]")
    pq.write_table(pa.table({"image": [b"<html>"]}), file.with_name("w.parquet"))
    with pytest.raises(DiscernError, match=r"w\.parquet#image\[0\]: cannot be decoded"):
        decode(f"{file.with_name('w.parquet')}#image[0]")


def test_what_was_read_last_is_kept_up_to_a_limit():
    read = []

    def get(kept, key, size):
        return kept.get(key, lambda: (read.append(key) or key, size))

    kept = Recent(10)
    for key, size in (("a", 6), ("b", 4), ("a", 6), ("c", 3), ("a", 6), ("b", 4), ("huge", 99), ("huge", 99)):
        assert get(kept, key, size) == key
    assert read == ["a", "b", "c", "b", "huge"]


def test_threads_read_one_thing_once_and_different_things_side_by_side():
    kept, count, both = Recent(100), [], threading.Barrier(2, timeout=20)

    def slow(key):
        count.append(key)
        both.wait()  # passes only if the other key is being read meanwhile
        return key, 1

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda i: kept.get(i % 2, lambda: slow(i % 2)), range(8)))
    assert seen == [0, 1] * 4
    assert sorted(count) == [0, 1]


def test_what_could_not_be_read_is_tried_again():
    kept = Recent(10)

    def fails():
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        kept.get("a", fails)
    assert kept.get("a", lambda: ("found", 1)) == "found"


def test_a_message_about_bytes_is_the_same_every_time():
    error = OSError("cannot identify image file <_io.BytesIO object at 0x7f46ba337ab0>")
    assert "cannot be decoded (cannot identify image file)" in str(explained("a.png", error))
