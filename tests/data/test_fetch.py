"""Fetching a data set: what is recorded, what is asked of a person, what is brought together."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.fetching.git_server import GitServer, commit
from tests.fetching.hub_server import REVISION, Server, sha256
from tests.fetching.packed import zip_of

from discern.data.originals.fetch import fetch_dataset, missing
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError
from discern.fetching import transfer
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PICTURES = {"a/1.png": b"one", "b/1.png": b"two"}


def card(source, adapter=None, **changes):
    facts = {
        "name": "toy", "title": "Toy", "modality": "X-ray", "licence": "none", "source": source,
        "classes": [{"name": "a"}, {"name": "b"}], "adapter": adapter or {"kind": "image_folder"},
    }  # fmt: skip
    return DatasetCard.model_validate(facts | changes)


MANUAL = {"kind": "manual", "page": "https://get.example/toy", "place": "a/ and b/", "note": "log in"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The folder of the data set in an empty project, which is where it is placed by default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    for name in ("HF_TOKEN", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "resources" / "datasets" / "toy"


def fetch(entry, project, place=None):
    """Root and record."""
    record = project / "fetched.json"
    fetch_dataset(entry, place or project, project.parents[1] / "downloads", record)
    content = json.loads(record.read_text())
    return project.parents[2] / content["root"], content


def refused(entry, project, place=None):
    with pytest.raises(DiscernError) as caught:
        fetch(entry, project, place)
    assert not (project / "fetched.json").exists()
    return str(caught.value)


def tree(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# --------------------------------------------------------------------------- placed by hand


def test_manual_data_are_asked_for_then_recorded(project):
    entry = card(MANUAL)
    for state in ("absent", "empty"):
        text = refused(entry, project)
        for part in (state, str(project), "a/ and b/", "https://get.example/toy", "log in"):
            assert part in text
        assert missing(entry, project) == text
        project.mkdir(parents=True, exist_ok=True)
    for name in "ab":
        (project / name).mkdir()
    assert missing(entry, project) is None
    root, record = fetch(entry, project)
    assert root == project
    assert record["files"] == {}
    assert missing(entry, project, project / "fetched.json") is None
    for name in "ab":
        (project / name).rmdir()  # the workflow's own record does not make a folder full
    assert "empty" in missing(entry, project, project / "fetched.json")


# --------------------------------------------------------------------------- addresses


@pytest.fixture
def published(tmp_path):
    """A zip at a file address, and its card."""
    (tmp_path / "web").mkdir()
    path = zip_of(tmp_path / "web" / "toy.zip", PICTURES)
    return card({"kind": "url", "url": path.as_uri(), "sha256": sha256(path.read_bytes())})


def test_url_data_are_unpacked_and_made_whole_again(published, project):
    root, record = fetch(published, project)
    assert tree(root) == PICTURES
    assert record["files"] == {"toy.zip": published.source[0].sha256}
    assert record["source"] == [published.source[0].model_dump(mode="json")]
    (root / "a/1.png").write_text("damaged")
    root, _ = fetch(published, project)
    assert tree(root) == PICTURES
    assert sorted(p.name for p in project.iterdir()) == [".files", "fetched.json"]


def test_where_nothing_is_placed_elsewhere_the_project_keeps_the_download(published, project, tmp_path):
    root, _ = fetch(published, project, tmp_path / "disk" / "toy")
    assert root.is_relative_to(project)
    assert not (tmp_path / "disk").exists()


def test_a_person_s_files_are_used_instead_of_a_download(published, project):
    for name, text in (("a", "mine"), ("b", "")):
        (project / name).mkdir(parents=True)
        (project / name / "1.png").write_text(text)
    root, _ = fetch(published, project)
    assert (root / "a/1.png").read_text() == "mine"
    assert not (project / ".files").exists()
    shutil.rmtree(project / "b")
    text = missing(published, project)
    assert "missing: b/" in text
    assert published.source[0].url in text


def test_an_npz_of_medmnist_with_its_md5(project, tmp_path):
    """Arrays and keys as the collection publishes them, behind an address with a query."""
    arrays = {}
    for split, n in (("train", 6), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = np.full((n, 28, 28), n, np.uint8)
        arrays[f"{split}_labels"] = np.arange(n).reshape(n, 1) % 2
    with io.BytesIO() as file:
        np.savez_compressed(file, **arrays)
        content = file.getvalue()
    with Server() as hub:
        hub.add("datasets/z/10519652", {"toymnist.npz": content})
        url = f"{hub.url}/datasets/z/10519652/resolve/{REVISION}/toymnist.npz?download=1"
        source = {"kind": "url", "url": url, "md5": hashlib.md5(content).hexdigest()}
        entry = card(source, {"kind": "npz", "file": "toymnist.npz"}, pool=["train"])
        hub.lies["toymnist.npz"] = content[:-1] + b"?"
        text = refused(entry, project)
        assert f"the card says {source['md5']}" in text
        assert f"put it into {project}/" in text
        aside = tmp_path / "resources" / "downloads" / "datasets" / "toy" / "toymnist.npz.rejected"
        assert aside.read_bytes() == hub.lies.pop("toymnist.npz")
        root, record = fetch(entry, project)
    assert record["files"] == {"toymnist.npz": sha256(content)}
    with np.load(root / "toymnist.npz") as loaded:
        assert loaded["train_images"].shape == (6, 28, 28)
    (tmp_path / "mine.npz").write_bytes(content)
    assert "looked for toymnist.npz" in missing(entry, tmp_path / "mine.npz")
    (tmp_path / "mine.npz").rename(tmp_path / "toymnist.npz")
    (project / "fetched.json").unlink()
    assert fetch(entry, project, tmp_path / "toymnist.npz")[0] == tmp_path
    (tmp_path / "toymnist.npz").write_bytes(b"another")
    (project / "fetched.json").unlink()
    assert "left alone and not used" in refused(entry, project, tmp_path / "toymnist.npz")


# --------------------------------------------------------------------------- several sources


def test_several_sources_become_one_folder(project, tmp_path):
    """Two archives of a hub, sheets of a git repository, a single file behind an address."""
    (tmp_path / "web").mkdir()
    zips = {
        part: zip_of(tmp_path / "web" / part, {f"Set/{part[0]}/1.png": b"1"}).read_bytes()
        for part in ("a.zip", "b.zip")
    }
    (tmp_path / "web" / "drop.txt").write_text("x")
    served = tmp_path / "served"
    name = commit(served / "sheets", {"dataset/train.csv": b"x", "notebook.ipynb": b"{}"})
    with Server() as hub, GitServer(served) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        hub.add("datasets/org/set", zips)
        sources = [
            {"kind": "hub", "repo": "org/set", "repo_type": "dataset", "revision": REVISION,
             "files": list(zips)},
            {"kind": "git", "url": f"{server.url}/sheets/.git", "commit": name, "paths": ["dataset"]},
            {"kind": "url", "url": (tmp_path / "web" / "drop.txt").as_uri()},
        ]  # fmt: skip
        entry = card(sources, {"kind": "image_folder", "folder": "Set"})
        assert missing(entry, project) is None
        root, record = fetch(entry, project)
    assert tree(root) == {
        "Set/a/1.png": b"1", "Set/b/1.png": b"1", "dataset/train.csv": b"x", "drop.txt": b"x",
    }  # fmt: skip
    assert record["files"].keys() == {"a.zip", "b.zip", "drop.txt"}
    assert [source["kind"] for source in record["source"]] == ["hub", "git", "url"]


def test_sources_that_would_overwrite_each_other_are_refused(published, project, tmp_path):
    (tmp_path / "other").mkdir()
    other = zip_of(tmp_path / "other" / "toy2.zip", {"a/1.png": b"other"})
    sources = [published.source[0], {"kind": "url", "url": other.as_uri()}]
    assert "would overwrite" in refused(card(sources), project)
    assert not (project / ".files" / "fetched").exists()


def test_a_download_that_is_not_laid_out_as_its_card_says(published, project):
    entry = card(published.source, classes=[{"name": "a"}, {"name": "c"}])
    assert "missing: c/" in refused(entry, project)


# --------------------------------------------------------------------------- what a person must do first


def test_hub_data_say_what_is_missing(project, monkeypatch):
    unpinned = card({"kind": "hub", "repo": "a/b", "files": ["x.zip"]})
    assert "pins no revision" in missing(unpinned, project)
    gated = card({"kind": "hub", "repo": "a/b", "revision": "1", "gated": True, "terms": "https://t.example"})
    assert "https://t.example" in missing(gated, project)
    monkeypatch.setenv("HF_TOKEN", "x")
    assert missing(gated, project) is None


def test_kaggle_data_ask_for_a_token_or_the_archive(project, monkeypatch, tmp_path):
    entry = card({"kind": "kaggle", "dataset": "me/toy"})
    for text in (missing(entry, project), refused(entry, project)):
        for part in ("https://www.kaggle.com/datasets/me/toy", "KAGGLE_API_TOKEN", f"{project}/"):
            assert part in text
    archive = zip_of(tmp_path / "archive.zip", PICTURES)
    assert missing(entry, archive) is None
    assert tree(fetch(entry, project, archive)[0]) == PICTURES
    monkeypatch.setenv("KAGGLE_API_TOKEN", "x")
    assert missing(entry, project) is None


def test_git_data_need_the_program(project, monkeypatch, tmp_path):
    entry = card({"kind": "git", "url": "https://git.example/x", "commit": "0" * 40})
    assert missing(entry, project) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install git" in missing(entry, project)


def test_what_was_fetched_needs_no_more_rights(published, project, monkeypatch):
    """A token that is gone since: nothing is missed while the files are here and the card is the same."""
    fetch(published, project)
    content = json.loads((project / "fetched.json").read_text())
    kaggle = card({"kind": "kaggle", "dataset": "me/toy"})
    content["source"] = [kaggle.source[0].model_dump(mode="json")]
    (project / "fetched.json").write_text(json.dumps(content))
    assert missing(kaggle, project, project / "fetched.json") is None
    assert missing(card({"kind": "kaggle", "dataset": "me/other"}), project, project / "fetched.json")
    shutil.rmtree(project / ".files")
    assert missing(kaggle, project, project / "fetched.json")


# --------------------------------------------------------------------------- recipes


def test_a_failing_recipe_leaves_what_is_there(project):
    old = project / ".files" / "fetched" / "old.png"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    with pytest.raises(DiscernError, match=r"found 'ihcc'.*\n.*ihc, organs"):
        fetch(card({"kind": "recipe", "recipe": "ihcc"}), project)
    assert old.read_text() == "old"
    assert sorted(p.name for p in old.parents[1].iterdir()) == ["fetched"]


def test_recipe_data_twice_are_identical_and_keep_the_cards_counts(project):
    entry = Registry([ROOT / "registry"]).datasets["ihc_compartments"]
    (project.parent / "first").mkdir(parents=True)
    (project.parent / "first" / "stale.txt").touch()  # nobody places what is made here
    files = []
    for run in ("first", "second"):
        root, record = fetch(entry, project.with_name(run))
        files.append(tree(root))
    assert files[0] == files[1]
    table = (root / "labels.csv").read_text().splitlines()
    for one in entry.classes:
        assert sum(f",{one.name}," in row for row in table) == one.count
    digest = hashlib.sha256((root / "labels.csv").read_bytes()).hexdigest()
    assert record["files"] == {"labels.csv": digest}
