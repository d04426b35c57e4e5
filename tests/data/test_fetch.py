"""Fetching a data set: what is recorded, what is asked of a person, what is never overwritten."""

import hashlib
import json
import zipfile

import pytest

from discern.data.fetch import fetch_dataset, missing
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError
from discern.registry import Registry


def card(source, adapter=None):
    return DatasetCard.model_validate(
        {
            "name": "toy",
            "title": "Toy",
            "modality": "X-ray",
            "licence": "none",
            "classes": [{"name": "a"}, {"name": "b"}],
            "source": source,
            "adapter": adapter or {"kind": "image_folder"},
        }
    )


MANUAL = {"kind": "manual", "page": "https://get.example/toy", "place": "a/ and b/", "note": "log in"}


@pytest.fixture
def fetch(tmp_path):
    def run(entry):
        record = tmp_path / "data" / "toy" / "fetched.json"
        fetch_dataset(entry, tmp_path / "data", tmp_path / "downloads", record)
        return json.loads(record.read_text())

    return run


def test_manual_data_are_asked_for_then_recorded(fetch, tmp_path):
    entry, folder = card(MANUAL), tmp_path / "data" / "toy"
    for state in ("absent", "empty"):
        with pytest.raises(DiscernError) as caught:
            fetch(entry)
        for part in (state, str(folder), "a/ and b/", "https://get.example/toy", "log in"):
            assert part in str(caught.value)
        assert missing(entry, tmp_path / "data") == str(caught.value)
        folder.mkdir(parents=True, exist_ok=True)
    (folder / "a").mkdir()
    assert missing(entry, tmp_path / "data") is None
    record = fetch(entry)
    assert record["dataset"] == "toy"
    assert record["root"] == str(folder)
    assert record["source"]["page"] == MANUAL["page"]
    assert missing(entry, tmp_path / "data") is None
    (folder / "a").rmdir()  # the workflow's own record does not make a folder full
    assert "empty" in missing(entry, tmp_path / "data")


@pytest.fixture
def published(tmp_path):
    """A zip at a file address, and its card."""
    path = tmp_path / "web" / "toy.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", "one")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return card({"kind": "url", "url": path.as_uri(), "sha256": digest})


def test_url_data_are_unpacked_and_replaced_by_a_newer_version(fetch, published, tmp_path):
    record = fetch(published)
    assert (tmp_path / "data/toy/a/1.png").read_text() == "one"
    assert record["files"] == {"toy.zip": published.source.sha256}
    (tmp_path / "data/toy/a/1.png").write_text("damaged")
    fetch(published)
    assert (tmp_path / "data/toy/a/1.png").read_text() == "one"
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["toy"]


def test_a_persons_files_are_used_and_never_replaced(fetch, published, tmp_path):
    (tmp_path / "data/toy/a").mkdir(parents=True)
    (tmp_path / "data/toy/a/1.png").write_text("mine")
    fetch(published)
    assert (tmp_path / "data/toy/a/1.png").read_text() == "mine"
    hub = card({"kind": "hub", "repo": "a/b", "files": ["x.zip"]})
    assert missing(hub, tmp_path / "data") is None


def test_hub_data_say_what_is_missing(tmp_path, monkeypatch):
    unpinned = card({"kind": "hub", "repo": "a/b", "files": ["x.zip"]})
    assert "pins no revision" in missing(unpinned, tmp_path)
    gated = card({"kind": "hub", "repo": "a/b", "revision": "1", "gated": True, "terms": "https://t.example"})
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert "https://t.example" in missing(gated, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "x")
    assert missing(gated, tmp_path) is None


def test_a_failing_recipe_leaves_the_old_files(fetch, tmp_path):
    old = tmp_path / "data" / "toy" / "old.png"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    with pytest.raises(DiscernError, match=r"found 'ihcc'.*\n.*ihc, organs"):
        fetch(card({"kind": "recipe", "recipe": "ihcc"}))
    assert old.read_text() == "old"
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["toy"]


def test_recipe_data_twice_are_identical_and_keep_the_cards_counts(tmp_path):
    entry = Registry().datasets["ihc_compartments"]
    files = []
    for run in ("first", "second"):
        root, record = tmp_path / run, tmp_path / f"{run}.json"
        fetch_dataset(entry, root, tmp_path / "downloads", record)
        folder = root / entry.name
        files.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert files[0] == files[1]
    table = (folder / "labels.csv").read_text().splitlines()
    for one in entry.classes:
        assert sum(f",{one.name}," in row for row in table) == one.count
    digest = hashlib.sha256((folder / "labels.csv").read_bytes()).hexdigest()
    assert json.loads(record.read_text())["files"] == {"labels.csv": digest}
