"""Made pictures: DICOM as PNG and merged masks, for any image id, never stale, never outside their folder."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_dicom import dicom

from discern.data.adapters.rows import Row
from discern.data.pictures.images import Pictures
from discern.data.pictures.render import expand, made_name, render
from discern.decoding_card import Decoding
from discern.errors import DiscernError

RNG = np.random.default_rng(0)
RAMP = np.arange(400, dtype=np.uint16).reshape(20, 20)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "root").mkdir()
    return Pictures(tmp_path / "root", tmp_path / "made")


def saved(store, name, values):
    file = store.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)
    return name


def files(store):
    return sorted(str(f.relative_to(store.made)) for f in store.made.rglob("*") if f.is_file())


def test_ordinary_rows_are_left(store):
    row = Row("a", saved(store, "a.png", np.zeros((4, 4), np.uint8)), "x", mask_paths=("a.png",))
    assert render(row, store) is row
    for path in ("s.npz#images[3]", "t.parquet#image[0]", "v.nii.gz", "absent", "absent.tif#frame[2]"):
        row = Row("a", path, "x")
        assert render(row, store) is row
    assert files(store) == []


@pytest.mark.parametrize("name", ["a.dcm", "A.IMA", "IM0001"])
def test_dicom_becomes_png(store, name):
    path = dicom(store.root / name, RAMP, WindowCenter=200, WindowWidth=100)
    before = Row("p 1/s (2)/a", name, "x", group="p", mask_paths=())
    after = render(before, store)
    assert after == replace(before, path="made:p 1/s (2)/a.png")
    assert files(store) == ["p 1/s (2)/a.png"]
    image, mode = store.decode(after.path)
    assert mode == "L"
    assert np.array_equal(np.asarray(image), np.asarray(store.open(name)))
    assert render(after, store) is after
    assert path.is_file()


def test_colours_stay_colours(store):
    colour = RNG.integers(0, 256, (6, 5, 3), np.uint8)
    dicom(store.root / "c.dcm", colour)
    image, mode = store.decode(render(Row("c", "c.dcm", "x"), store).path)
    assert mode == "RGB"
    assert np.array_equal(np.asarray(image), colour)


def test_what_is_up_to_date_is_left_and_nothing_is_stale(store):
    dicom(store.root / "a.dcm", RAMP)
    row = Row("a", "a.dcm", "x")
    file = store.file(render(row, store).path)
    first, pixels = file.stat().st_mtime_ns, file.read_bytes()
    render(row, store)
    assert file.stat().st_mtime_ns == first
    other_rule = Pictures(store.root, store.made, Decoding(window={"low": 0, "high": 50}))
    render(row, other_rule)
    assert file.read_bytes() != pixels
    render(row, store)
    assert file.read_bytes() == pixels
    dicom(store.root / "a.dcm", RAMP[::-1])
    os.utime(store.root / "a.dcm", ns=(1, 1))
    render(row, store)
    assert np.asarray(store.open("made:a.png"))[0, 0, 0] > 200
    file.write_bytes(b"torn")
    render(row, store)
    assert np.asarray(store.open("made:a.png"))[0, 0, 0] > 200


def test_several_masks_are_merged(store):
    masks = [np.zeros((4, 6), np.uint8) for _ in range(3)]
    masks[0][0], masks[1][1], masks[2][:, 5] = 255, 128, 127
    names = tuple(saved(store, f"m{i}.png", mask) for i, mask in enumerate(masks))
    row = Row("benign/benign (4)", "a.png", "x", mask_paths=names)
    after = render(row, store)
    assert after == replace(row, mask_paths=("made:masks/benign/benign (4).png",))
    merged = store.mask(after.mask_paths[0])
    assert np.array_equal(merged, (masks[0] == 255) | (masks[1] == 128))
    with Image.open(store.file(after.mask_paths[0])) as picture:
        assert picture.mode == "L"
    saved(store, "m1.png", np.full((4, 6), 255, np.uint8))
    os.utime(store.root / "m1.png", ns=(1, 1))
    assert store.mask(render(row, store).mask_paths[0]).all()


def test_a_dicom_mask_is_made_and_masks_of_different_sizes_are_told(store):
    dicom(store.root / "m.dcm", np.array([[0, 1], [0, 0]], np.uint8))
    made = render(Row("a", "a.png", "x", mask_paths=("m.dcm",)), store).mask_paths
    assert made == ("made:masks/a.png",)
    assert store.mask(made[0]).tolist() == [[False, True], [False, False]]
    other = saved(store, "n.png", np.zeros((2, 3), np.uint8))
    with pytest.raises(
        DiscernError, match=r"n\.png: mask of 3 x 2 pixels, another of the same image has 2 x 2"
    ):
        render(Row("b", "a.png", "x", mask_paths=("m.dcm", other)), store)


def test_damage_is_told(store):
    (store.root / "a.dcm").write_bytes(b"<html>")
    with pytest.raises(DiscernError, match=r"root/a\.dcm: cannot be decoded \(it is a web page"):
        render(Row("a", "a.dcm", "x"), store)
    with pytest.raises(DiscernError, match=r"root/none\.dcm: no such file"):
        render(Row("a", "none.dcm", "x"), store)
    with pytest.raises(DiscernError, match=r"root/1\.png: no such file"):
        render(Row("a", "a.png", "x", mask_paths=("1.png", "2.png")), store)
    assert files(store) == []


IDS = [
    "plain", "with blank (1)", "a/b/c", "Bild-ä-日本-🩻", "x#0", "dots.in.name", "-dash", "a\\b", "CON",
    "%20", "../up", "/etc/passwd", "a//b", "..", ".", ".hidden", "a/../../b", "a/./b", "tail/", "",
    "nul\0byte", "line\nbreak", "n" * 255, "ü" * 127, "f" * 255 + "/" + "g" * 255, "masks/a", "a",
    "a.png/b", "a.png", "n" * 254 + "m", "masks", "a.PNG/c",
]  # fmt: skip


def test_every_image_id_has_a_file_of_its_own_inside_the_folder(store):
    store.made.mkdir()
    inside = store.made.resolve()
    for number, image_id in enumerate(IDS):
        for prefix in ("", "masks/"):
            file = store.made / (prefix + made_name(image_id))
            file.parent.mkdir(parents=True, exist_ok=True)
            assert inside in file.resolve().parents, image_id
            assert max(len(os.fsencode(part)) for part in file.parts) <= 230
            assert not file.exists(), image_id
            file.write_text(str(number))
    for number, image_id in enumerate(IDS):
        assert (store.made / made_name(image_id)).read_text() == str(number)


@pytest.mark.parametrize("image_id", IDS)
def test_every_image_id_is_rendered(store, image_id):
    dicom(store.root / "a.dcm", RAMP)
    after = render(Row(image_id, "a.dcm", "x", mask_paths=("a.dcm",)), store)
    assert store.open(after.path).size == (20, 20)
    assert store.mask(after.mask_paths[0]).sum() == 399
    assert len(files(store)) == 2


def test_frames_become_rows(store):
    stack = np.stack([np.full((4, 4), k, np.uint8) for k in range(3)])
    dicom(store.root / "a.dcm", stack, NumberOfFrames=3)
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(store.root / "b.tif", save_all=True, append_images=pages[1:])
    saved(store, "c.png", stack[0])
    (store.root / "d.tif").write_bytes(b"damaged")
    rows = [Row(name[0], name, "x", group="g") for name in ("a.dcm", "b.tif", "c.png", "d.tif", "none.png")]
    assert expand(rows, store) is rows
    every = Pictures(store.root, store.made, Decoding(frames="all"))
    found = expand(rows, every)
    assert [row.image_id for row in found] == ["a#0", "a#1", "a#2", "b#0", "b#1", "b#2", "c", "d", "n"]
    assert found[1] == replace(rows[0], image_id="a#1", path="a.dcm#frame[1]", volume="a")
    assert found[6:] == rows[2:]
    shown = [render(row, every) for row in found[:6]]
    assert [row.path for row in shown[:3]] == ["made:a#0.png", "made:a#1.png", "made:a#2.png"]
    assert [int(np.asarray(every.open(row.path)).max()) for row in shown] == [0, 1, 2, 0, 1, 2]


def test_several_processes_render(store):
    rows = []
    for k in range(8):
        dicom(store.root / f"{k}.dcm", RAMP + np.uint16(k))
        rows.append(Row(f"case/{k}", f"{k}.dcm", "x"))
    with ProcessPoolExecutor(2) as pool:
        after = list(pool.map(partial(render, pictures=store), rows))
    assert [row.path for row in after] == [f"made:case/{k}.png" for k in range(8)]
    assert files(store) == [f"case/{k}.png" for k in range(8)]


def test_made_pictures_are_found_by_their_manifest_path(store):
    dicom(store.root / "a.dcm", RAMP)
    after = render(Row("a", "a.dcm", "x"), store)
    again = Pictures.of({"root": "elsewhere", "made": str(store.made), "decoding": {}})
    assert again.file(after.path) == Path(store.made) / "a.png"
    assert np.asarray(again.open(after.path)).max() == 255
