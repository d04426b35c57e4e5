"""``discern pin`` against a hub on this machine: what it prints can be fetched."""

import pytest
import yaml

from discern.cli import main
from discern.encoders.record import read_weights
from discern.encoders.weights import fetch_weights
from discern.errors import DiscernError
from discern.pin import pin
from discern.sources import ManualFile
from tests.fetching.hub_server import REVISION, TOWER, card, checkpoint, running_hub, sha256, sharded


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub(monkeypatch, tmp_path / "home") as running:
        yield running


def pinned(planted):
    text = pin(planted)
    return yaml.safe_load(text)["weights"], text


def test_pin_prints_commit_files_sizes_and_digests(hub):
    weights = checkpoint("a")
    hub.add("org/net", {"model.safetensors": weights, "config.json": b"{}", "README.md": b"#"})
    hub.per_page = 2
    found, text = pinned(card(revision=None))
    assert found == {
        "kind": "hub", "repo": "org/net", "revision": REVISION, "files": ["model.safetensors"],
        "bytes": len(weights), "sha256": {"model.safetensors": sha256(weights)},
    }  # fmt: skip
    assert "config.json (2 bytes)" in text
    assert "licence stated there: mit" in text


def test_pin_counts_only_the_shards_that_are_needed(hub):
    files = sharded()
    hub.add("org/net", files)
    found, _ = pinned(card(revision=None, prefix=TOWER))
    assert found["index"] == "model.safetensors.index.json"
    assert "files" not in found
    wanted = ["model-00002-of-00004.safetensors", "model-00004-of-00004.safetensors"]
    assert list(found["sha256"]) == wanted
    assert found["bytes"] == sum(len(files[name]) for name in [found["index"], *wanted])


def test_what_pin_prints_can_be_fetched(hub, tmp_path):
    hub.add("org/net", sharded())
    found, _ = pinned(card(revision=None, prefix=TOWER))
    fetch_weights(card(prefix=TOWER, **found), tmp_path, tmp_path / "w" / "fetched.json")
    assert len(read_weights(tmp_path / "w" / "fetched.json")) == 3


def test_pin_of_a_gated_repository_without_its_index(hub):
    hub.add("org/net", sharded(), gated=True)
    found, text = pinned(card(prefix=TOWER))
    assert found["gated"] is True
    assert found["terms"] == "https://huggingface.co/org/net"
    assert "without the shards" in text


def test_pin_keeps_the_card_s_choice_and_names_what_is_not_there(hub):
    hub.add("org/net", {"a.bin": b"a", "b.bin": b"b"})
    found, text = pinned(card(["b.bin", "c.bin"]))
    assert found["files"] == ["b.bin"]
    assert "not there: c.bin" in text


def test_pin_sends_the_token_and_never_prints_it(hub, monkeypatch, tmp_path):
    hub.add("org/net", {"a.bin": b"a"})
    hub.readers.add("hf_secret")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_secret\n")
    assert "hf_secret" not in pin(card())
    assert {a.token for a in hub.asked} == {"hf_secret"}


def test_pin_says_why_it_cannot(hub, monkeypatch):
    with pytest.raises(DiscernError, match="no such repository"):
        pin(card(repo="org/nothing"))
    hub.add("org/net", {"a.bin": b"a"})
    with pytest.raises(DiscernError, match=r"status 404.*\n.*weights\.revision"):
        pin(card(revision="e" * 40))
    manual = card().model_copy(update={"weights": ManualFile(kind="manual", place="a")})
    with pytest.raises(DiscernError, match="of kind 'manual'"):
        pin(manual)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DiscernError, match=r"127\.0\.0\.1:9: no answer"):
        pin(card())


def test_pin_as_a_command(hub, tmp_path, capsys):
    hub.add("org/net", {"a.bin": b"a"})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "planted.yaml").write_text(yaml.safe_dump(card().model_dump(mode="json")))
    assert main(["pin", "planted", "--registry", str(tmp_path)]) == 0
    assert f"revision: {REVISION}" in capsys.readouterr().out
    assert main(["pin", "plantet", "--registry", str(tmp_path)]) == 2
    assert "did you mean 'planted'" in capsys.readouterr().err
