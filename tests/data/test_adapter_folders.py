"""Folders of pictures with what people, file managers and archive programs leave in them."""

import logging
import os

import pytest
from adapter_cards import card, labels, rows, touch

from discern.data.adapters import scan
from discern.errors import DiscernError

FOLDER = card("image_folder")


def test_labels_are_folders_at_any_depth(tmp_path):
    touch(tmp_path, "liver/a/b/1.png", "liver/2.JPG", "spleen/1.Png", "spleen/a (1) ☂\n.jpeg")
    assert labels(FOLDER, tmp_path) == {
        "liver/a/b/1": "liver", "liver/2": "liver", "spleen/1": "spleen", "spleen/a (1) ☂\n": "spleen",
    }  # fmt: skip


def test_repeated_base_names_keep_their_folders_and_suffixes(tmp_path):
    touch(tmp_path, "liver/1.png", "spleen/1.png", "liver/1.jpg", "liver/x/1.png", "liver/1.png.jpg")
    assert len(rows(FOLDER, tmp_path)) == 5


def test_what_is_no_image_is_not_read_but_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, "discern")
    touch(
        tmp_path, "liver/1.png", "spleen/2.png", "liver/Thumbs.db", "liver/desktop.ini", "spleen/.DS_Store",
        "liver/._1.png", "__MACOSX/liver/1.png", "@eaDir/x/3.png", "liver/notes.txt", "ATTRIBUTION",
    )  # fmt: skip
    assert set(rows(FOLDER, tmp_path)) == {"liver/1", "spleen/2"}
    for kind in ("1 .db", "1 .ini", "1 .txt", "1 without suffix"):
        assert kind in caplog.text


def test_a_class_folder_too_many(tmp_path):
    touch(tmp_path, "liver/1.png", "livers/4.png", "livers/5.png", "Spleen/1.png", "6.png")
    with pytest.raises(DiscernError) as error:
        scan(FOLDER, tmp_path)
    assert "3 unknown labels" in str(error.value)
    assert "'livers'; did you mean 'liver'? (2 images, first livers/4.png)" in str(error.value)
    assert "'Spleen'; did you mean 'spleen'?" in str(error.value)
    assert "no class folder (1 images, first 6.png)" in str(error.value)
    left = card("image_folder", labels={"livers": None, "Spleen": "spleen", "": None})
    found = scan(left, tmp_path)
    assert {r.label_name for r in found.rows} == {"liver", "spleen"}
    assert found.left_out_labels == {"": 1, "livers": 2}


def test_nothing_there_says_what_is_there_instead(tmp_path):
    touch(tmp_path, "data/liver/1.dcm", "data/liver/2.dcm", "data/spleen/notes.txt")
    with pytest.raises(DiscernError, match=r"no images here; found 2 other files \(\.dcm\), 1 other files"):
        scan(card("image_folder", folder="data"), tmp_path)
    with pytest.raises(DiscernError, match=r"other: no such folder\n  repair: .*: hepar, spleen"):
        scan(card("image_folder", folder="other", labels={"hepar": "liver"}), tmp_path)
    touch(tmp_path, "data/liver/3.png")
    with pytest.raises(DiscernError, match="found 1 left out by the pattern"):
        scan(card("image_folder", folder="data", pattern="^x"), tmp_path)


def test_links_are_followed_but_not_for_ever(tmp_path):
    touch(tmp_path, "store/kidney_left/1.png", "data/liver/sub/2.PNG", "data/.hidden/liver/3.png")
    (tmp_path / "data/kidney_left").symlink_to(tmp_path / "store/kidney_left")
    (tmp_path / "data/liver/loop").symlink_to(tmp_path / "data")
    (tmp_path / "store/kidney_left/self").symlink_to(tmp_path / "store/kidney_left")
    (tmp_path / "data/liver/file.png").symlink_to(tmp_path / "store/kidney_left/1.png")
    adapter = card("image_folder", ("kidney", "liver"), labels={"kidney_left": "kidney"})
    assert labels(adapter, tmp_path / "data") == {
        "kidney_left/1": "kidney", "liver/sub/2": "liver", "liver/file": "liver",
    }  # fmt: skip


def test_a_folder_that_cannot_be_listed_is_not_empty(tmp_path, monkeypatch):
    touch(tmp_path, "liver/1.png", "spleen/2.png")
    listed = os.scandir

    def denied(place):  # as for a user who lacks the right, which the one who runs tests may have
        if str(place).endswith("spleen"):
            raise PermissionError(13, "Permission denied", str(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DiscernError, match=r"spleen: cannot be listed \(Permission denied\)"):
        scan(FOLDER, tmp_path)


def test_named_groups_of_the_pattern(tmp_path):
    touch(tmp_path, "a/liver_p1_v2_train.png", "a/spleen_p2_v3_test.png", "a/other.png")
    pattern = r"^(?P<label>[a-z]+)_(?P<group>p\d)_(?P<volume>v\d)_(?P<official_split>[a-z]+)\.png$"
    found = scan(card("image_folder", pattern=pattern), tmp_path)
    assert [(r.label_name, r.group, r.volume, r.official_split) for r in found.rows] == [
        ("liver", "p1", "v2", "train"),
        ("spleen", "p2", "v3", "test"),
    ]
    assert found.left_out == ["a/other.png"]


def test_a_folder_for_each_split(tmp_path):
    touch(tmp_path, "top/Training/liver/1.png", "top/Testing/liver/1.png")
    splits = card("image_folder", folder="top/{split}", splits=["Training", "Testing"])
    assert {n: r.official_split for n, r in rows(splits, tmp_path).items()} == {
        "top/Training/liver/1": "Training",
        "top/Testing/liver/1": "Testing",
    }
    only = splits.model_copy(update={"pool": ["Training"]})
    assert list(rows(only, tmp_path)) == ["top/Training/liver/1"]
    short = card("image_folder", folder="top/Training")
    assert list(rows(short, tmp_path)) == ["liver/1"]


BUSI = card("image_folder", ("benign", "normal"), masks=r"{stem}_mask(_\d+)?\.(?i:png)")


def test_masks_belong_to_the_image_beside_them(tmp_path, caplog):
    touch(
        tmp_path, "benign/benign (4).png", "benign/benign (4)_mask.png", "benign/benign (4)_mask_1.png",
        "benign/benign (40).png", "normal/normal (1).JPG", "normal/normal (1)_mask.PNG",
        "normal/benign (4)_mask.png", "normal/normal (2).png",
    )  # fmt: skip
    found = scan(BUSI, tmp_path)
    assert {r.image_id: r.mask_paths for r in found.rows} == {
        "benign/benign (4)": ("benign/benign (4)_mask.png", "benign/benign (4)_mask_1.png"),
        "benign/benign (40)": (),
        "normal/normal (1)": ("normal/normal (1)_mask.PNG",),
        "normal/normal (2)": (),
    }
    assert found.left_out == ["normal/benign (4)_mask.png"]
    assert "1 masks without an image are left out: normal/benign (4)_mask.png" in caplog.text


def test_volumes(tmp_path):
    touch(tmp_path, "liver/a.nii.gz", "liver/b.nii", "liver/preview.png")
    assert set(labels(card("image_folder", modality="CT volume"), tmp_path)) == {"liver/a", "liver/b"}


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": "(?P<patient>x)"}, "unknown named group patient"),
        ({"masks": "_mask"}, r"must contain \{stem\} once"),
        ({"masks": "{stem}("}, "not a regular expression"),
        ({"folder": "a/../b"}, "relative path"),
        ({"folder": "{split}"}, "not listed"),
        ({"splits": ["a"]}, r"need \{split\}"),
    ],
)
def test_cards_that_cannot_be_meant_are_refused(adapter, message):
    with pytest.raises(ValueError, match=message):
        card("image_folder", **adapter)
