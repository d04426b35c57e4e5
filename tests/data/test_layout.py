"""Where in a folder a data set begins, and what is said where it does not."""

from pathlib import Path

import pytest

from discern.data.originals.explain import where_to_get, wrong_layout
from discern.data.originals.layout import anchors, find_root, layout_problem
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError

FOLDERS = {"kind": "image_folder"}
MANUAL = {"kind": "manual", "page": "https://get.example/toy", "place": "a/ and b/", "note": "log in"}


def card(adapter=FOLDERS, **changes):
    facts = {
        "name": "toy", "title": "Toy", "modality": "CT", "licence": "none", "source": MANUAL,
        "classes": [{"name": "COVID"}, {"name": "non-COVID"}], "adapter": adapter,
    }  # fmt: skip
    return DatasetCard.model_validate(facts | changes)


def fill(folder, *names):
    """Empty files, and folders for names that end with /."""
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return folder


def wanted(adapter, **changes):
    return [str(anchor) for anchor in anchors(card(adapter, **changes))]


# --------------------------------------------------------------------------- what is looked for


@pytest.mark.parametrize(
    ("adapter", "pool", "found"),
    [
        (FOLDERS, None, ["COVID/", "non-COVID/"]),
        (FOLDERS | {"folder": "Training"}, None, ["Training/COVID/", "Training/non-COVID/"]),
        (
            FOLDERS | {"labels": {"pos": "COVID", "neg": "non-COVID", "maybe": None}},
            None,
            ["pos/ or COVID/", "neg/ or non-COVID/"],
        ),
        (
            FOLDERS | {"folder": "set/{split}", "splits": ["train", "test"]},
            None,
            ["set/train/", "set/test/", "set/train/COVID/ or set/test/COVID/",
             "set/train/non-COVID/ or set/test/non-COVID/"],
        ),
        (
            FOLDERS | {"folder": "set/{split}", "splits": ["train", "test"]},
            ["train"],
            ["set/train/COVID/", "set/train/non-COVID/"],
        ),
        (FOLDERS | {"folder": "breast", "pattern": r"^(?P<label>\w+)-"}, None, ["breast/"]),
        (FOLDERS | {"pattern": r"^(?P<label>\w+)-"}, None, []),
        ({"kind": "dicom_folder", "folder": "scans", "label": "BodyPartExamined"}, None, ["scans/"]),
        ({"kind": "dicom_folder", "folder": "scans"}, None, ["scans/COVID/", "scans/non-COVID/"]),
        ({"kind": "csv"}, None, ["labels.csv"]),
        (
            {"kind": "csv", "table": "truth.csv", "join": {"table": "more.csv", "on": "image"},
             "columns": {"path": "Input/{image}.jpg"}},
            None,
            ["truth.csv", "more.csv", "Input/"],
        ),
        (
            {"kind": "csv", "table": "{split}.csv", "splits": ["train", "val"],
             "columns": {"path": "{image_name}"}, "images": ["{split}", "images/{split}"]},
            ["val"],
            ["val.csv", "val/ or images/val/"],
        ),
        ({"kind": "parquet", "table": "data/{split}-*.parquet", "splits": ["train"]}, None,
         ["data/train-*.parquet"]),
        ({"kind": "npz", "file": "set_224.npz"}, ["train"], ["set_224.npz"]),
        ({"kind": "python", "function": "mine:rows"}, None, []),
    ],
)  # fmt: skip
def test_a_card_says_what_must_be_there(adapter, pool, found):
    assert wanted(adapter, pool=pool) == found


# --------------------------------------------------------------------------- where it is


@pytest.mark.parametrize("above", ["", "Set", "Set/Set", "download/Set/Set"])
def test_extra_and_doubled_top_folders_are_tolerated(tmp_path, above):
    fill(tmp_path / above, "COVID/a.png", "non-COVID/b.png", "__MACOSX/COVID/", "Thumbs.db")
    assert find_root(card(), tmp_path) == tmp_path / above


def test_four_levels_are_too_deep(tmp_path):
    fill(tmp_path, "1/2/3/4/COVID/", "1/2/3/4/non-COVID/")
    assert find_root(card(), tmp_path) is None


def test_the_shallowest_wins_and_junk_does_not_count(tmp_path):
    fill(tmp_path, "x/COVID/", "x/non-COVID/", "y/x/COVID/", "y/x/non-COVID/", "__MACOSX/COVID/")
    fill(tmp_path, "__MACOSX/non-COVID/", ".hidden/COVID/", ".hidden/non-COVID/")
    assert find_root(card(), tmp_path) == tmp_path / "x"


def test_several_equally_deep_are_named(tmp_path):
    fill(tmp_path, "x/COVID/", "x/non-COVID/", "y/COVID/", "y/non-COVID/")
    with pytest.raises(DiscernError) as caught:
        find_root(card(), tmp_path)
    for part in ("2 folders", str(tmp_path / "x"), str(tmp_path / "y"), "data: {toy: FOLDER}"):
        assert part in str(caught.value)


def test_the_named_top_folder_itself_may_be_pointed_at(tmp_path):
    entry = card(FOLDERS | {"folder": "Dataset_BUSI/images"})
    fill(tmp_path, "Dataset_BUSI/images/COVID/", "Dataset_BUSI/images/non-COVID/")
    assert find_root(entry, tmp_path / "Dataset_BUSI") == tmp_path
    assert find_root(entry, tmp_path / "Dataset_BUSI" / "images") is None


def test_a_relative_place_gives_a_relative_root(tmp_path, monkeypatch):
    fill(tmp_path, "Set/COVID/", "Set/non-COVID/")
    monkeypatch.chdir(tmp_path)
    assert find_root(card(), Path()) == Path("Set")
    monkeypatch.chdir(tmp_path / "Set")
    assert find_root(card(FOLDERS | {"folder": "Set"}), Path()) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert find_root(card(FOLDERS | {"folder": "Set"}), Path("Set")) == Path()


def test_folders_of_patients_are_not_searched(tmp_path):
    fill(tmp_path, *(f"p{i}/COVID/" for i in range(150)), *(f"p{i}/non-COVID/" for i in range(150)))
    assert find_root(card(), tmp_path) is None


def test_linked_folders_are_found(tmp_path):
    fill(tmp_path / "disk", "COVID/", "non-COVID/")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Set").symlink_to(tmp_path / "disk")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data")
    assert find_root(card(), tmp_path / "data") == tmp_path / "data" / "Set"


def test_tables_of_the_wanted_splits_only(tmp_path):
    adapter = {"kind": "csv", "table": "{split}.csv", "splits": ["train", "test"]}
    fill(tmp_path, "in/train.csv")
    assert find_root(card(adapter, pool=["train"]), tmp_path) == tmp_path / "in"
    assert find_root(card(adapter), tmp_path) is None


def test_parquet_patterns(tmp_path):
    adapter = {"kind": "parquet", "table": "data/train-*.parquet"}
    fill(tmp_path, "repo/data/test-0.parquet")
    assert find_root(card(adapter), tmp_path) is None
    fill(tmp_path, "repo/data/train-0.parquet")
    assert find_root(card(adapter), tmp_path) == tmp_path / "repo"


def test_a_folder_of_pictures_may_be_spelt_otherwise_as_the_reader_of_tables_allows(tmp_path):
    adapter = {"kind": "csv", "columns": {"path": "Images/{id}.jpg"}}
    fill(tmp_path, "labels.csv", "images/1.jpg")
    assert find_root(card(adapter), tmp_path) == tmp_path


# --------------------------------------------------------------------------- what is said


def test_a_different_layout_is_explained(tmp_path):
    fill(tmp_path, "CT/covid/1.png", "CT/covid/2.png", "CT/non-COVID/3.png", "notes.txt", "old.rar")
    fill(tmp_path, "scans.zip", "__MACOSX/", "Thumbs.db")
    text = str(wrong_layout(card(terms="https://terms.example"), tmp_path))
    for part in (
        "data set 'toy'", str(tmp_path), "looked for COVID/, non-COVID/",
        f"nearest: {tmp_path / 'CT'} has 1 of 2", "missing: COVID/ (found 'covid', which differs in case)",
        "CT/ (2 entries: covid/, non-COVID/)", "notes.txt", "scans.zip (an archive)", "unpack them by hand",
        "https://get.example/toy (log in)", "terms: https://terms.example", "up to three levels",
    ):  # fmt: skip
        assert part in text
    assert "MACOSX" not in text
    assert "Thumbs" not in text


def test_a_name_that_is_nearly_right_is_pointed_out(tmp_path):
    fill(tmp_path, "COVID/1.png", "nonCOVID/1.png")
    assert "missing: non-COVID/ (did you mean 'nonCOVID'" in str(wrong_layout(card(), tmp_path))


def test_many_entries_are_counted(tmp_path):
    fill(tmp_path, *(f"f{i:02}.txt" for i in range(30)), *(f"z/{i}" for i in range(40)))
    text = str(wrong_layout(card(), tmp_path))
    assert "and 19 more" in text
    fill(tmp_path / "z", "COVID/")
    text = str(wrong_layout(card(), tmp_path / "z"))
    assert "COVID/ (empty)" in text


def test_a_root_that_changed_since_is_explained(tmp_path):
    fill(tmp_path, "COVID/1.png", "non-COVID/1.png")
    assert layout_problem(card(), tmp_path) is None
    (tmp_path / "COVID").rename(tmp_path / "moved")
    assert "missing: COVID/" in layout_problem(card(), tmp_path)
    for state in ("empty", "absent"):
        place = tmp_path / state
        if state == "empty":
            fill(place, "fetched.json", "Thumbs.db")
        assert f"is {state}" in layout_problem(card(), place)


def test_each_source_says_where_it_is():
    sources = [
        {"kind": "hub", "repo": "a/b", "repo_type": "dataset"}, {"kind": "kaggle", "dataset": "c/d"},
        {"kind": "git", "url": "https://git.example/e", "commit": "0" * 40}, MANUAL,
        {"kind": "url", "url": "https://url.example/f.zip"}, {"kind": "recipe", "recipe": "ihc"},
    ]  # fmt: skip
    text = where_to_get(card(source=sources), Path("here"))
    for part in (
        "huggingface.co/datasets/a/b", "kaggle.com/datasets/c/d", "https://git.example/e",
        "https://url.example/f.zip", "https://get.example/toy", "here/",
    ):  # fmt: skip
        assert part in text
