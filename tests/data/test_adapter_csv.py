"""CSV sheets as people and spreadsheets write them."""

import logging
import os

import pytest
from adapter_cards import card, labels, rows, touch

from discern.data.adapters import scan
from discern.errors import DiscernError

CSV = card("csv")


def sheet(root, text, name="labels.csv", encoding="utf-8", pictures=("1.png", "2.png")):
    touch(root, *pictures)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text.encode(encoding))


def fails(card, root, *fragments):
    """The message of the error, which contains every fragment."""
    with pytest.raises(DiscernError) as error:
        scan(card, root)
    for fragment in fragments:
        assert fragment in str(error.value)
    return str(error.value)


def test_every_column(tmp_path):
    sheet(
        tmp_path,
        "path,label,group,volume,official_split,mask_path,boxes,site\n"
        'a/1.png, liver ,p1,v1,train,m/1.png,"[[0, 1, 5, 6]]",x\n'
        "a/1.jpg,spleen,,,,,,y\n",
        pictures=("a/1.png", "a/1.jpg", "m/1.png"),
    )
    first, second = scan(CSV, tmp_path).rows
    assert (first.image_id, first.label_name, first.group, first.volume) == ("a/1.png", "liver", "p1", "v1")
    assert (first.official_split, first.mask_paths, first.boxes) == ("train", ("m/1.png",), [[0, 1, 5, 6]])
    assert second.image_id == "a/1.jpg"  # two files of one stem keep their extensions
    assert (second.group, second.mask_paths, second.boxes) == (None, (), None)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        (
            "path,label\n1.png,liver\n2.png,livre\n",
            ["1 unknown labels", "'livre'; did you mean 'liver'? (1 images, first", "labels.csv, line 3)"],
        ),
        ("path,label\n1.png,LIVER\n", ["'LIVER'; did you mean 'liver'?"]),
        ("path,label\n1.png,\n", ["an empty label (1 images, first", "line 2"]),
        ("file,label\n1.png,liver\n", ["column 'path' is missing\n  allowed: file, label"]),
        ("file,class\n1.png,liver\n", ["column 'path' is missing; column 'label' is missing"]),
        (
            "path;label\n1.png;liver\n",
            ["column 'path' is missing", "separated by ';': set adapter.delimiter"],
        ),
        ("path,label,label\n1.png,liver,spleen\n", ["2 columns are named 'label'"]),
        ("path,label\n../1.png,liver\n", ["line 2: path '../1.png' leaves the data set's folder"]),
        ("path,label\n/1.png,liver\n", ["path '/1.png' leaves"]),
        ("path,label\nC:\\1.png,liver\n", ["path 'C:\\1.png' leaves"]),
        ("path,label\n\\\\server\\1.png,liver\n", ["path '\\\\server\\1.png' leaves"]),
        ("path,label\n,liver\n", ["line 2: path is empty"]),
        (
            "path,label\n1.png,liver\n1.png,spleen\n",
            ["1 images are named more than once", "1.png (liver, spleen)"],
        ),
        ("path,label\n1.png\n", ["line 2: does not have 2 fields, but 1"]),
        ("path,label\n1.png,liver,x\n", ["line 2: does not have 2 fields, but 3"]),
        ('path,label,boxes\n1.png,liver,"[[5, 0, 1, 1]]"\n', ["line 2: boxes are not JSON lists"]),
        ("path,label\n", ["label sheet without rows"]),
        ("", ["empty label sheet"]),
        ("\n\n", ["empty label sheet"]),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, text, fragments):
    sheet(tmp_path, text)
    fails(CSV, tmp_path, *fragments)


def test_all_mistakes_are_told_at_once(tmp_path):
    lines = [
        "1.png,livre,",
        ",liver,",
        "../2.png,liver,",
        "2.png,liver,[[1]]",
        "2.png",
        "3.png,liver,",
        "1.png,x,",
    ]
    sheet(tmp_path, "path,label,boxes\n" + "\n".join(lines))
    fails(
        CSV, tmp_path, "4 rows do not fit the card", "line 3: path is empty", "line 4: path '../2.png'",
        "line 5: boxes", "line 6: does not have 3 fields", "2 unknown labels", "'livre'", "'x'",
        "1 files that the table names are not there:\n  3.png",
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spreadsheet_spellings(tmp_path, encoding, end):
    lines = ["path , label", " 1.png, liver ", "", ",", '2.png, "spleen" ', "größe 3.png,liver,"]
    sheet(tmp_path, end.join(lines), encoding=encoding, pictures=("1.png", "2.png", "größe 3.png"))
    assert labels(CSV, tmp_path) == {"1": "liver", "2": "spleen", "größe 3": "liver"}


def test_latin_1_is_refused_with_its_repair(tmp_path):
    sheet(tmp_path, "path,label\ngröße.png,liver\n", encoding="latin-1")
    fails(CSV, tmp_path, "labels.csv: is not UTF-8", "iconv -f latin1 -t utf-8")


def test_quoted_newlines_and_odd_names(tmp_path):
    names = ["a (1).png", "b, c.png", "two\nlines.png", "naïve ☂.png"]
    sheet(tmp_path, "path,label\n" + "".join(f'"{n}",liver\n' for n in names), pictures=names)
    assert [r.path for r in scan(CSV, tmp_path).rows] == names


def test_windows_paths_and_other_case(tmp_path, caplog):
    caplog.set_level(logging.INFO, "discern")
    sheet(
        tmp_path,
        "path,label,mask_path\n\\Images\\1\\a.jpg,liver,Images\\1\\A_MASK.png\n.\\images\\1\\b.JPG,spleen,\n",
        pictures=("Images/1/a.JPG", "Images/1/a_mask.png", "Images/1/b.JPG"),
    )
    first, second = scan(CSV, tmp_path).rows
    assert (first.path, first.mask_paths) == ("Images/1/a.JPG", ("Images/1/a_mask.png",))
    assert second.path == "Images/1/b.JPG"
    assert "3 paths differ from the disk in case, e.g. Images/1/a.jpg is Images/1/a.JPG" in caplog.text


def test_case_that_is_ambiguous_is_an_error(tmp_path):
    sheet(tmp_path, "path,label\na.png,liver\nB.png,liver\n", pictures=("a.PNG", "A.png", "B.png", "b.png"))
    fails(CSV, tmp_path, "1 rows do not fit", "line 2: ", "'a.png' may be any of A.png, a.PNG")


def test_missing_files_are_listed_unless_they_are_not_needed(tmp_path):
    lines = [f"{i}.png,liver,{'train' if i < 30 else 'test'}" for i in range(40)]
    sheet(tmp_path, "path,label,official_split\n" + "\n".join(lines), pictures=["0.png"])
    text = fails(
        CSV, tmp_path, "39 files that the table names are not there:\n  1.png", "and 19 more", "repair: "
    )
    assert text.count(".png\n") == 20
    fails(card("csv", pool=["train"]), tmp_path, "29 files that")
    fails(card("csv", pool=["train"], drop=["1*"]), tmp_path, "18 files that")
    found = scan(card("csv", pool=["train"], drop=[str(i) for i in range(1, 30)]), tmp_path)
    assert len(found.rows) == 40
    left = scan(card("csv", labels={"liver": None, "l": "liver"}), tmp_path)
    assert (left.rows, left.left_out_labels) == ([], {"liver": 40})


def test_a_missing_mask_is_missed(tmp_path):
    sheet(tmp_path, "path,label,mask_path\n1.png,liver,m.png\n2.png,liver,\n")
    fails(CSV, tmp_path, "1 files that the table names are not there:\n  m.png")


def test_the_image_folder_that_has_most_is_taken(tmp_path):
    text = "image,label\n1.png,liver\n2.png,spleen\n"
    doubled = card("csv", columns={"path": "{image}"}, images=["Input", "Input/Input", "Other"])
    sheet(tmp_path, text, pictures=("Input/Input/1.png", "Input/Input/2.png", "Other/1.png"))
    assert {r.path for r in scan(doubled, tmp_path).rows} == {"Input/Input/1.png", "Input/Input/2.png"}
    (tmp_path / "Input/Input/2.png").unlink()  # the first of those that have most
    fails(doubled, tmp_path, "1 files", "Input/Input/2.png")


def test_images_may_lie_in_several_folders(tmp_path):
    parts = card("csv", columns={"path": "{image}.jpg"}, images=["part_1", "part_2"])
    sheet(tmp_path, "image,label\n1,liver\n2,spleen\n3,liver\n", pictures=("part_1/1.jpg", "part_2/2.JPG"))
    fails(parts, tmp_path, "1 files that the table names are not there:\n  part_1/3.jpg")
    touch(tmp_path, "part_2/3.jpg")
    assert {r.path for r in scan(parts, tmp_path).rows} == {"part_1/1.jpg", "part_2/2.JPG", "part_2/3.jpg"}


def test_one_table_for_each_split(tmp_path):
    splits = card(
        "csv", table="{split}.csv", splits=["train", "val"], images=["{split}/Images"],
        columns={"path": "{split}_{image}.png", "group": "{split}-{patient}"},
    )  # fmt: skip
    for split in ("train", "val"):
        sheet(
            tmp_path,
            "image,label,patient\n1,liver,7\n",
            f"{split}.csv",
            pictures=[f"{split}/Images/{split}_1.png"],
        )
    found = rows(splits, tmp_path)
    assert {name: (r.official_split, r.group) for name, r in found.items()} == {
        "train/Images/train_1": ("train", "train-7"),
        "val/Images/val_1": ("val", "val-7"),
    }
    (tmp_path / "val.csv").unlink()
    fails(splits, tmp_path, "val.csv: no such label sheet (there are: train.csv)")
    only = splits.model_copy(update={"pool": ["train"]})
    assert list(rows(only, tmp_path)) == ["train/Images/train_1"]
    (tmp_path / "train.csv").unlink()
    fails(splits, tmp_path, "train.csv: no such", "val.csv: no such")  # both at once


def test_rows_outside_the_pool_need_not_fit(tmp_path):
    sheet(tmp_path, "path,label,official_split\n1.png,liver,train\n,unknown,test\nmissing.png,,test\n")
    found = scan(card("csv", pool=["train"]), tmp_path)
    assert [(r.label_name, r.official_split) for r in found.rows if r.official_split == "train"] == [
        ("liver", "train")
    ]
    assert sum(r.official_split == "test" for r in found.rows) == 2


def test_delimiter_and_no_header(tmp_path):
    sheet(tmp_path, "1.png|40|train\n2.png|40|test\n", "fold.txt")
    headless = card("csv", table="fold.txt", delimiter="|", header=["path", "label", "official_split"],
                    labels={"40": "liver"})  # fmt: skip
    assert {r.official_split for r in scan(headless, tmp_path).rows} == {"train", "test"}


def test_float_and_empty_labels(tmp_path):
    sheet(
        tmp_path,
        "path,label\n1.png,1.0\n2.png,-1.0\n3.png,\n4.png,0\n",
        pictures=[f"{i}.png" for i in range(1, 5)],
    )
    chexpert = card("csv", labels={"1": "liver", "0": "spleen", "-1": "spleen", "": None})
    found = scan(chexpert, tmp_path)
    assert [r.label_name for r in found.rows] == ["liver", "spleen", "spleen"]
    assert found.left_out_labels == {"": 1}


def test_templates_and_alternatives(tmp_path):
    sheet(
        tmp_path, "id,Overall quality,left,right\n1,7,liver,\n2,,,spleen\n", pictures=("q/1.png", "q/2.png")
    )
    columns = {"path": "q/{id}.png", "label": ["left", "right"], "group": "{id}/{Overall quality}"}
    found = rows(card("csv", columns=columns), tmp_path)
    assert {name: (r.label_name, r.group) for name, r in found.items()} == {
        "q/1": ("liver", "1/7"),
        "q/2": ("spleen", None),  # a text with an empty column in it is empty
    }
    sheet(tmp_path, "id,Overall quality,left,right\n1,7,liver,spleen\n2,7,,\n")
    fails(
        card("csv", columns=columns),
        tmp_path,
        "line 2: 2 of left, right are filled",
        "line 3: 0 of left, right",
    )


HOT = "image,liver,spleen,UNK,age\n"


def one_hot(**more):
    return card("csv", one_hot=True, columns={"path": "{image}.png"}, **more)


def test_one_hot(tmp_path):
    sheet(tmp_path, HOT + "1,1.0,0.0,0.0,50\n2,0,1,,1\n")
    assert labels(one_hot(), tmp_path) == {"1": "liver", "2": "spleen"}
    sheet(tmp_path, HOT + "1,0,0,1.0,50\n2,1,1,0,50\n3,0,0,0,50\n4,0.5,0,0,50\n5,nan,0,1,50\n")
    fails(
        one_hot(), tmp_path, "5 rows do not fit", "line 2: no class column is 1, but UNK",
        "{UNK: null} leaves its images out", "line 3: 2 class columns are 1 (liver, spleen)",
        "line 4: no class column is 1, expected one", "line 5: one-hot columns hold liver '0.5'",
        "line 6: one-hot columns hold liver 'nan'",
    )  # fmt: skip
    sheet(tmp_path, HOT + "1,0,0,1.0,50\n2,1,0,0,50\n")
    found = scan(one_hot(labels={"UNK": None}), tmp_path)
    assert ([r.label_name for r in found.rows], found.left_out_labels) == (["liver"], {"UNK": 1})
    fails(one_hot(classes=("liver", "spleen", "kidney")), tmp_path, "column 'kidney' is missing")
    renamed = one_hot(classes=("Liver", "spleen"), labels={"liver": "Liver", "UNK": None})
    assert [r.label_name for r in scan(renamed, tmp_path).rows] == ["Liver"]


def test_join(tmp_path):
    joined = card("csv", join={"table": "more.csv", "on": "path"}, columns={"group": "lesion"})
    sheet(tmp_path, "path,label,age\n1.png,liver,1\n2.png,spleen,2\n")
    sheet(tmp_path, "age,lesion,path\n9,L2,2.png\n8,,1.png\n8,,1.png\n7,L7,7.png\n", "more.csv")
    assert {n: r.group for n, r in rows(joined, tmp_path).items()} == {"1": None, "2": "L2"}
    sheet(tmp_path, "path,lesion\n2.png,L2\n2.png,L3\n", "more.csv")
    fails(joined, tmp_path, "more.csv: 1 rows cannot be joined", "line 3: path '2.png' has other values")
    sheet(tmp_path, "path,lesion\n3.png,L2\n", "more.csv")
    fails(joined, tmp_path, "2 rows do not fit", "line 2: path '1.png' has no row in", "line 3: path '2.png'")
    sheet(tmp_path, "file,lesion\n3.png,L2\n", "more.csv")
    fails(joined, tmp_path, "more.csv: column 'path' is missing")


def test_locators_of_npz_members_are_paths(tmp_path):
    sheet(tmp_path, "path,label\nA.npz#x[3],liver\nb.npz#x[0],liver\n", pictures=("a.npz", "b.npz"))
    assert {n: r.path for n, r in rows(CSV, tmp_path).items()} == {"a": "a.npz#x[3]", "b": "b.npz#x[0]"}


@pytest.mark.parametrize(("modality", "files"), [("CT", "volumes"), ("CT volume", "pictures")])
def test_files_that_the_modality_excludes_are_refused(tmp_path, modality, files):
    names = ["a.nii.gz", "b.nii.gz"] if files == "volumes" else ["a.png", "b.png"]
    sheet(tmp_path, "path,label\n" + "".join(f"{n},liver\n" for n in names), pictures=names)
    fails(card("csv", modality=modality), tmp_path, f"2 are {files}")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"table": "../labels.csv"}, "relative path"),
        ({"images": ["/data"]}, "relative path"),
        ({"images": []}, "at least 1 item"),
        ({"splits": ["train"]}, r"`splits` need \{split\}"),
        ({"table": "{split}.csv"}, "which are not listed"),
        ({"delimiter": ", "}, "at most 1 character"),
    ],
)
def test_cards_that_cannot_be_meant_are_refused(adapter, message):
    with pytest.raises(ValueError, match=message):
        card("csv", **adapter)


def test_names_that_are_not_utf_8_are_told(tmp_path):
    broken = os.fsdecode(b"gr\xf6\xdfe.png")
    touch(tmp_path, f"liver/{broken}", "liver/1.png")
    fails(card("image_folder"), tmp_path, "the names of 1 files are not UTF-8", "gr\\udcf6\\udcdfe.png")
