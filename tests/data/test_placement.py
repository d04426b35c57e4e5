"""A person's own folders and archives: used as they are, never changed or written into."""

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest
from tests.fetching.packed import tar_of, zip_of

from discern.data.originals.fetch import fetch_dataset, missing
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError

FOLDERS = {"kind": "image_folder"}
MANUAL = {"kind": "manual", "page": "https://get.example/toy", "place": "a/ and b/"}
ISIC = {
    "kind": "csv", "table": "Truth.csv", "join": {"table": "More.csv", "on": "image"},
    "columns": {"path": "Input/{image}.jpg"},
}  # fmt: skip
SHEETS = {"Truth.csv": b"image,label\n1,a\n", "More.csv": b"image,group\n1,x\n"}


def card(source=MANUAL, adapter=FOLDERS, **changes):
    facts = {
        "name": "toy", "title": "Toy", "modality": "X-ray", "licence": "none", "source": source,
        "classes": [{"name": "a"}, {"name": "b"}], "adapter": adapter,
    }  # fmt: skip
    return DatasetCard.model_validate(facts | changes)


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def state(folder):
    """Everything below a folder, with times: nothing of a person's may change."""
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in [folder, *folder.rglob("*")]}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "resources" / "datasets" / "toy"


def fetch(entry, place, project):
    """The root and the record; the place is not touched unless it is the project's own folder."""
    record = project / "fetched.json"
    before = state(place) if place != project else None
    fetch_dataset(entry, place, project.parents[1] / "downloads", record)
    if before is not None:
        assert state(place) == before
    content = json.loads(record.read_text())
    return project.parents[2] / content["root"], content


def refusal(entry, place, project):
    with pytest.raises(DiscernError) as caught:
        fetch_dataset(entry, place, project / "downloads", project / "fetched.json")
    assert not (project / "fetched.json").exists()
    return str(caught.value)


def names(root):
    found = {}
    for folder, _, files in os.walk(root, followlinks=True):
        for path in (Path(folder) / file for file in files):
            found[os.path.relpath(path, root)] = path.read_bytes()
    return found


PICTURES = {"a/1.png": b"1", "b/1.png": b"2"}

# --------------------------------------------------------------------------- folders


def test_a_folder_is_used_where_it_lies(project, tmp_path):
    mine = write(tmp_path / "disk" / "Set", PICTURES)
    assert missing(card(), mine) is None
    root, record = fetch(card(), mine.parent, project)
    assert root == mine
    assert record["dataset"] == "toy"
    assert record["source"] == [{"kind": "placed", "place": str(mine.parent)}]
    assert not (project / ".files").exists()


def test_the_project_s_own_folder_takes_files_as_well(project):
    write(project, PICTURES)
    root, record = fetch(card(), project, project)
    assert root == project
    assert fetch(card(), project, project)[1] == record


def test_another_layout_is_explained_before_and_at_the_fetch(project, tmp_path):
    mine = write(tmp_path / "disk", {"A/1.png": b"1", "b/1.png": b"2"})
    text = missing(card(), mine)
    for part in ("looked for a/, b/", "found 'A', which differs in case", "https://get.example/toy"):
        assert part in text
    assert refusal(card(), mine, project) == text


def test_a_wrong_place_is_not_filled_by_a_download(project, tmp_path):
    """Who points to a folder means it: what lies there is explained, not passed over."""
    mine = write(tmp_path / "disk", {"notes.txt": b"x"})
    entry = card({"kind": "url", "url": "http://127.0.0.1:9/toy.zip"})
    assert "another layout" in missing(entry, mine)
    assert "another layout" in refusal(entry, mine, project)


def test_a_file_of_the_card_may_be_pointed_at(project, tmp_path):
    mine = write(tmp_path / "disk", {"set_28.npz": b"npz", "in/labels.csv": b"path,label\n"})
    npz = card(adapter={"kind": "npz", "file": "set_28.npz"})
    assert fetch(npz, mine / "set_28.npz", project)[0] == mine
    sheet = card(adapter={"kind": "csv", "table": "in/labels.csv"})
    assert fetch(sheet, mine / "in" / "labels.csv", project)[0] == mine
    assert missing(npz, mine / "set_28.npz") is None
    text = missing(npz, mine / "in" / "labels.csv")
    assert "looked for set_28.npz" in text
    assert "labels.csv (a file)" in text


def test_a_function_of_one_s_own_gets_the_folder_as_it_is(project, tmp_path):
    entry = card(adapter={"kind": "python", "function": "mine:rows"})
    mine = write(tmp_path / "disk", {"x.bin": b"1", "more.zip": b"not even a zip"})
    assert fetch(entry, mine, project)[0] == mine
    archive = zip_of(tmp_path / "x.zip", {"deep/x.bin": b"1"})
    assert names(fetch(entry, archive, project)[0]) == {"deep/x.bin": b"1"}


# --------------------------------------------------------------------------- archives


@pytest.mark.parametrize("top", ["", "Set_v1/", "Set_v1/Set_v1/", "x/Set/Set/"])
def test_an_archive_is_unpacked_once_into_the_project(project, tmp_path, top):
    (tmp_path / "disk").mkdir()
    archive = zip_of(tmp_path / "disk" / "Set.zip", {top + name: body for name, body in PICTURES.items()})
    assert missing(card(), archive) is None
    for place in (archive, archive.parent):
        root, record = fetch(card(), place, project)
        assert names(root) == PICTURES
        assert root == project / ".files" / "unpacked" / "Set.zip" / top.rstrip("/")
        assert record["files"] == {"Set.zip": hashlib.sha256(archive.read_bytes()).hexdigest()}
    born = (root / "a/1.png").stat().st_ino
    root, _ = fetch(card(), archive, project)
    assert (root / "a/1.png").stat().st_ino == born
    archive.unlink()
    changed = {top + "a/1.png": b"new", top + "b/1.png": b""}
    tar_of(archive, changed)  # the suffix lies: the bytes count
    assert names(fetch(card(), archive, project)[0]) == {"a/1.png": b"new", "b/1.png": b""}


def test_archives_in_the_project_s_own_folder(project):
    project.mkdir(parents=True)
    tar_of(project / "Set.tar.gz", PICTURES)
    for _ in range(2):
        root, record = fetch(card(), project, project)
        assert names(root) == PICTURES
        assert record["root"].startswith(str(project))
    write(project, PICTURES)  # somebody unpacks it after all
    assert fetch(card(), project, project)[0] == project
    assert not (project / ".files" / "unpacked").exists()


def test_a_folder_beside_its_own_archive_needs_no_unpacking(project, tmp_path):
    mine = write(tmp_path / "disk", {"Set.zip": b"damaged, and never opened", "Set/a/1": b"", "Set/b/1": b""})
    assert fetch(card(), mine, project)[0] == mine / "Set"


def test_sheets_beside_the_archive_of_their_pictures(project, tmp_path):
    """As the ISIC archive gives them: two sheets and a zip with its own top folder."""
    mine = write(tmp_path / "disk", SHEETS)
    zip_of(mine / "Input.zip", {"Input/1.jpg": b"1", "Input/ATTRIBUTION.txt": b""})
    root, _ = fetch(card(adapter=ISIC), mine, project)
    assert names(root).keys() == {*SHEETS, "Input/1.jpg", "Input/ATTRIBUTION.txt"}
    assert str(root).startswith(str(project))
    assert fetch(card(adapter=ISIC), mine, project)[0] == root


def test_pictures_loose_in_an_archive_that_is_named_as_their_folder(project, tmp_path):
    mine = write(tmp_path / "disk", SHEETS)
    zip_of(mine / "Input.zip", {"1.jpg": b"1"})
    assert names(fetch(card(adapter=ISIC), mine, project)[0]) == SHEETS | {"Input/1.jpg": b"1"}


def test_a_sheet_that_names_pictures_of_an_archive(project, tmp_path):
    """The card does not say where the pictures lie; the sheet's first row does."""
    mine = write(tmp_path / "disk", {"labels.csv": b"path,label\r\nx\\1.png,a\r\n"})
    zip_of(mine / "pictures.zip", {"x/1.png": b"1"})
    entry = card(adapter={"kind": "csv"})
    assert names(fetch(entry, mine, project)[0]).keys() == {"labels.csv", "x/1.png"}
    write(mine, {"x/1.png": b"1"})
    assert fetch(entry, mine, project)[0] == mine


def test_a_first_picture_that_is_nowhere_is_left_to_the_preparation(project, tmp_path):
    mine = write(tmp_path / "disk", {"labels.csv": b"path,label\nx/1.png,a\nx/2.png,b\n", "x/2.png": b"2"})
    zip_of(mine / "masks.zip", {"m/1.png": b"1"})
    assert fetch(card(adapter={"kind": "csv"}), mine, project)[0] == mine
    assert list((project / ".files").iterdir()) == []


def test_parts_in_several_archives_become_one_folder(project, tmp_path):
    (tmp_path / "disk").mkdir()
    for number in (1, 2):
        files = {f"Set/{name}/{number}.png": b"%d" % number for name in "ab"}
        tar_of(tmp_path / "disk" / f"part{number}.tar.gz", files | ({"Set/b/x": b""} if number == 1 else {}))
    zip_of(tmp_path / "disk" / "c.zip", {"Set/c/1.png": b"1"})
    entry = card(classes=[{"name": name} for name in "abc"])
    root, record = fetch(entry, tmp_path / "disk", project)
    assert names(root).keys() == {"a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/x", "c/1.png"}
    assert record["files"].keys() == {"part1.tar.gz", "part2.tar.gz", "c.zip"}


def test_two_archives_with_the_whole_are_ambiguous(project, tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("v1.zip", "v2.zip"):
        zip_of(tmp_path / "disk" / name, PICTURES)
    text = refusal(card(), tmp_path / "disk", project)
    assert "2 archives" in text
    assert "data: {toy: ARCHIVE}" in text
    assert names(fetch(card(), tmp_path / "disk" / "v2.zip", project)[0]) == PICTURES


def test_a_folder_full_of_archives_is_nobody_s_data_set(project, tmp_path):
    (tmp_path / "disk").mkdir()
    for number in range(30):
        zip_of(tmp_path / "disk" / f"{number}.zip", PICTURES)
    assert "30 archives" in refusal(card(), tmp_path / "disk", project)
    assert not (project / ".files").exists()


def test_an_archive_of_another_layout_is_explained(project, tmp_path):
    archive = zip_of(tmp_path / "Set.zip", {"Set/covid/1.png": b"", "Set/a/1.png": b""})
    text = refusal(card(), archive, project)
    assert "has 1 of 2" in text
    assert "missing: b/" in text
    assert "Set/ (2 entries: a/, covid/)" in text


def test_archives_that_are_not_opened_here_are_named(project, tmp_path):
    mine = write(tmp_path / "disk", {"Set.7z": b"7z"})
    assert "unpack them by hand" in missing(card(), mine)
    assert "unpack" in missing(card(), mine / "Set.7z")


def test_a_dangerous_archive_leaves_nothing(project, tmp_path):
    archive = zip_of(tmp_path / "Set.zip", PICTURES | {"../../evil": b""})
    assert "leave the target" in refusal(card(), archive, project)
    assert [p.name for p in (project / ".files" / "unpacked").iterdir()] == []


def test_known_digests_are_checked_in_what_a_person_placed(project, tmp_path):
    mine = tmp_path / "disk"
    mine.mkdir()
    archive = zip_of(mine / "Set.zip", PICTURES)
    good, bad = hashlib.sha256(archive.read_bytes()).hexdigest(), "0" * 64
    for source in (
        {"kind": "hub", "repo": "a/b", "files": ["in/Set.zip"], "sha256": {"in/Set.zip": bad}},
        {"kind": "url", "url": "https://x.example/d/Set.zip?download=1", "md5": "0" * 32},
        MANUAL | {"sha256": {"Set.zip": bad}},
        {"kind": "kaggle", "dataset": "me/Set", "sha256": bad},
    ):
        for place in (archive, mine):
            text = refusal(card(source), place, project)
            assert "the card says 000" in text
            assert "left alone" in text
    right = MANUAL | {"sha256": {"Set.zip": good}}
    assert fetch(card(right), mine, project)[1]["files"] == {"Set.zip": good}


def test_one_s_own_part_and_a_downloaded_one(project, tmp_path):
    """The sheets are published, the pictures must be asked for."""
    sheets = zip_of(tmp_path / "sheets.zip", SHEETS)
    sources = [{"kind": "url", "url": sheets.as_uri()}, MANUAL | {"place": "Input/"}]
    entry = card(sources, ISIC)
    assert "Input/" in missing(entry, project)
    assert "Input/" in refusal(entry, project, project)
    mine = write(tmp_path / "disk", {"Input/1.jpg": b"1"})
    assert missing(entry, mine) is None
    root, record = fetch(entry, mine, project)
    assert names(root) == SHEETS | {"Input/1.jpg": b"1"}
    assert list(record["files"]) == ["Truth.csv", "sheets.zip"]
    (mine / "Input" / "1.jpg").unlink()
    (mine / "Input").rmdir()
    with zipfile.ZipFile(mine / "Input.zip", "w") as archive:
        archive.writestr("1.jpg", b"1")
    assert names(fetch(entry, mine, project)[0]) == SHEETS | {"Input/1.jpg": b"1"}
