"""Weights from the hub, through ``fetch_weights``, the hub's real client and real HTTP on this machine."""

import json
import logging

import pytest

from discern.encoders.record import read_weights
from discern.encoders.state import read_state
from discern.encoders.weights import fetch_tokenizer, fetch_weights, missing
from discern.errors import DiscernError
from discern.fetching import transfer
from discern.model_card import ModelCard
from tests.fetching.hub_server import (
    GATED,
    LANGUAGE,
    REVISION,
    TOWER,
    Server,
    card,
    checkpoint,
    sha256,
    sharded,
)


def fetch(planted, record):
    fetch_weights(planted, "downloads", record)
    return read_weights(record)


def refused(planted, record):
    with pytest.raises(DiscernError) as error:
        fetch_weights(planted, "downloads", record)
    assert not record.exists()
    return str(error.value)


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


# --------------------------------------------------------------------------- what is fetched


def test_files_come_at_the_pinned_revision_and_only_once(hub, record):
    weights = checkpoint("a")
    hub.add("org/net", {"model.safetensors": weights, "config.json": b"{}", "other.bin": b"0"})
    planted = card(["config.json", "model.safetensors"], sha256={"model.safetensors": sha256(weights)})
    got = fetch(planted, record)
    assert got["model.safetensors"].read_bytes() == weights
    assert got["config.json"].read_bytes() == b"{}"
    assert all(REVISION in path for path in hub.got("HEAD"))
    assert not [path for path in hub.got() if "other" in path]
    hub.asked.clear()
    record.unlink()
    assert fetch(planted, record).keys() == got.keys()
    assert hub.asked == []


def test_only_shards_with_tensors_of_the_encoder_are_fetched(hub, record):
    files = sharded()
    hub.add("org/net", files)
    planted = card(prefix=TOWER, index="model.safetensors.index.json")
    got = fetch(planted, record)
    wanted = ["model-00002-of-00004.safetensors", "model-00004-of-00004.safetensors"]
    assert sorted(got) == [*wanted, "model.safetensors.index.json"]
    assert len(hub.got(part="safetensors")) == 3
    state = read_state([got[name] for name in wanted], [TOWER])
    assert sorted(state) == [TOWER + "a", TOWER + "b"]


def test_every_feature_s_shards_are_fetched(hub, record):
    hub.add("org/net", sharded())
    planted = card(prefix=TOWER, index="model.safetensors.index.json")
    features = [*planted.features, {"name": "p", "d": 3, "loader": {"prefix": "projector."}}]
    planted = ModelCard.model_validate(
        planted.model_dump(exclude_unset=True) | {"features": [dict(f) for f in features]}
    )
    assert "model-00003-of-00004.safetensors" in fetch(planted, record)
    everything = card(index="model.safetensors.index.json")
    record.unlink()
    assert len(fetch(everything, record)) == 5


def test_shards_beside_their_index_in_a_folder(hub, record):
    hub.add("org/net", {f"deep/er/{name}": content for name, content in sharded().items()})
    got = fetch(card(prefix=TOWER, index="deep/er/model.safetensors.index.json"), record)
    assert "deep/er/model-00004-of-00004.safetensors" in got


def test_an_index_without_the_encoder_names_what_it_has(hub, record):
    hub.add("org/net", sharded())
    text = refused(card(prefix="visual.", index="model.safetensors.index.json"), record)
    assert "no tensor begins with visual." in text
    assert LANGUAGE + "a" in text
    assert not hub.got(part="-of-")


def test_an_index_cannot_lead_out_of_the_folder(hub, record):
    index = json.dumps({"weight_map": {"a": "../../evil.safetensors"}}).encode()
    hub.add("org/net", {"i.json": index, "x": b""})
    assert "leave the target folder" in refused(card(index="i.json"), record)


def test_patterns_and_companions(hub, record):
    """A model that runs its authors' code: files by pattern, and a second repository in a folder."""
    code = {"modeling_net.py": b"1", "processing_net.py": b"2", "config.json": b"{}", "w.bin": b"w"}
    hub.add("org/net", code)
    hub.add("org/tower", {"config.json": b"{1}"})
    tower = {"kind": "hub", "repo": "org/tower", "revision": REVISION, "files": ["config.json"]}
    planted = card(["*.py", "config.json"], companions={"tower": tower})
    assert sorted(fetch(planted, record)) == [
        "config.json", "modeling_net.py", "processing_net.py", "tower/config.json",
    ]  # fmt: skip
    record.unlink()
    assert "no file fits '*.txt'" in refused(card(["*.txt"]), record)
    hub.broken = 503  # without the hub, what is here stands for its list
    assert len(fetch(planted, record)) == 4


def test_optional_files_are_taken_where_they_exist(hub, record, caplog):
    hub.add("org/net", {"w.bin": b"w", "config.json": b"{}"})
    assert sorted(fetch(card(["w.bin"], optional=["config.json"]), record)) == ["config.json", "w.bin"]
    record.unlink()
    assert sorted(fetch(card(["w.bin"], optional=["other.json"]), record)) == ["w.bin"]
    assert "without other.json the card is not compared with it" in caplog.text
    (record.parent / "config.json").unlink()
    record.unlink(missing_ok=True)
    hub.broken = 503  # what a person placed by hand suffices
    assert sorted(fetch(card(["w.bin"], optional=["config.json"]), record)) == ["w.bin"]


def test_data_sets_have_their_own_addresses(hub, tmp_path):
    from discern.fetching.hub import fetch_hub

    hub.add("datasets/org/pictures", {"a.zip": b"zip"})
    source = card(["a.zip"], repo="org/pictures", repo_type="dataset").weights
    assert fetch_hub(source, tmp_path / "got")[0].read_bytes() == b"zip"
    with pytest.raises(DiscernError, match=r"correct source\.files in the card$"):
        fetch_hub(source.model_copy(update={"files": ["b.zip"]}), tmp_path / "got")


def test_tokenizer_files_lie_in_their_own_folder(hub, record):
    hub.add("org/words", {"tokenizer.json": b"{}"})
    tower = {
        "loader": {"route": "timm", "arch": "x"}, "d": 3, "context_length": 7, "prompt": "{label}",
        "tokenizer": {"kind": "huggingface", "files": [card(["tokenizer.json"], repo="org/words").weights]},
    }  # fmt: skip
    planted = ModelCard.model_validate(card(["x"]).model_dump(exclude_unset=True) | {"text": tower})
    (path,) = fetch_tokenizer(planted, "downloads", record.parent)
    assert path == record.parent / "text" / "tokenizer.json"


# --------------------------------------------------------------------------- transfers that break


def test_a_broken_transfer_goes_on_within_the_run(hub, record):
    weights = checkpoint("a", "b")
    hub.add("org/net", {"w.safetensors": weights})
    hub.cuts["w.safetensors"] = [5000, 700]
    assert fetch(card(["w.safetensors"]), record)["w.safetensors"].read_bytes() == weights
    assert hub.ranges("w.safetensors") == [None, "bytes=5000-", "bytes=5700-"]


def test_a_broken_transfer_goes_on_in_the_next_run(hub, record, monkeypatch):
    weights = checkpoint("a", "b")
    hub.add("org/net", {"w.safetensors": weights})
    hub.cuts["w.safetensors"] = [5000]
    monkeypatch.setattr(transfer, "TRIES", 1)
    assert "run again (it resumes)" in refused(card(["w.safetensors"]), record)
    assert "w.safetensors" not in visible(record.parent)
    assert fetch(card(["w.safetensors"]), record)["w.safetensors"].read_bytes() == weights
    assert hub.ranges("w.safetensors") == [None, "bytes=5000-"]
    assert visible(record.parent) == ["fetched.json", "w.safetensors"]


def test_the_part_of_another_revision_is_not_continued(hub, record, monkeypatch):
    first, second = checkpoint("a"), checkpoint("a")
    hub.add("org/net", {"w.safetensors": first})
    hub.cuts["w.safetensors"] = [5000]
    monkeypatch.setattr(transfer, "TRIES", 1)
    refused(card(["w.safetensors"]), record)
    hub.add("org/net", {"w.safetensors": second}, revision="f" * 40)
    got = fetch(card(["w.safetensors"], revision="f" * 40), record)
    assert got["w.safetensors"].read_bytes() == second


def test_a_truncated_file_is_never_used(hub, record):
    weights = checkpoint("a")
    hub.add("org/net", {"w.safetensors": weights})
    hub.lies["w.safetensors"] = weights[:9000]
    text = refused(card(["w.safetensors"]), record)
    assert f"after 9000 of {len(weights)} bytes" in text
    assert "w.safetensors" not in visible(record.parent)
    hub.lies.clear()
    assert fetch(card(["w.safetensors"]), record)["w.safetensors"].read_bytes() == weights
    assert hub.ranges("w.safetensors")[-1] == "bytes=9000-"


# --------------------------------------------------------------------------- wrong bytes


def test_a_wrong_hash_uses_nothing_and_removes_nothing(hub, record):
    weights = checkpoint("a")
    hub.add("org/net", {"w.safetensors": weights})
    text = refused(card(["w.safetensors"], sha256={"w.safetensors": "0" * 64}), record)
    assert f"sha256 is {sha256(weights)}, the card says {'0' * 64}" in text
    assert visible(record.parent) == ["w.safetensors.rejected"]
    assert (record.parent / "w.safetensors.rejected").read_bytes() == weights
    # the card is corrected: what was refused is not taken by itself, nor lost
    fetch(card(["w.safetensors"]), record)
    assert visible(record.parent) == ["fetched.json", "w.safetensors", "w.safetensors.rejected"]


def test_without_a_hash_in_the_card_the_hub_s_own_is_checked(hub, record):
    weights = checkpoint("a")
    hub.add("org/net", {"w.safetensors": weights})
    hub.lies["w.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    assert f"the hub says {sha256(weights)}" in refused(card(["w.safetensors"]), record)
    assert visible(record.parent) == ["w.safetensors.rejected"]


def test_two_different_rejects_are_both_kept(hub, record):
    planted = card(["w.bin"], sha256={"w.bin": "0" * 64})
    for content in (b"one", b"two", b"two"):
        hub.add("org/net", {"w.bin": content})
        refused(planted, record)
    kept = [record.parent / "w.bin.rejected", record.parent / "w.bin.rejected2"]
    assert [p.read_bytes() for p in kept] == [b"one", b"two"]
    assert len(visible(record.parent)) == 2


# --------------------------------------------------------------------------- placed by hand


def test_placed_files_are_taken_without_network(hub, record):
    weights = checkpoint("a")
    (record.parent / "w.safetensors").write_bytes(weights)
    planted = card(["w.safetensors"], revision=None, gated=True, sha256={"w.safetensors": sha256(weights)})
    assert missing(planted) is None
    assert fetch(planted, record)["w.safetensors"].read_bytes() == weights
    assert hub.asked == []


def test_a_placed_file_without_a_known_hash_is_taken_with_a_warning(hub, record, caplog):
    (record.parent / "w.bin").write_bytes(b"mine")
    with caplog.at_level(logging.WARNING, "discern"):
        assert list(fetch(card(["w.bin"]), record)) == ["w.bin"]
    assert "taken unchecked" in caplog.text
    assert hub.asked == []


def test_a_placed_file_with_a_wrong_hash_is_left_alone(hub, record):
    hub.add("org/net", {"w.bin": b"right"})
    (record.parent / "w.bin").write_bytes(b"mine")
    text = refused(card(["w.bin"], sha256={"w.bin": sha256(b"right")}), record)
    assert f"sha256 is {sha256(b'mine')}, the card says {sha256(b'right')}" in text
    assert (record.parent / "w.bin").read_bytes() == b"mine"
    assert hub.asked == []


def test_placed_shards_of_an_index(hub, record):
    planted = card(prefix=TOWER, index="model.safetensors.index.json", gated=True)
    for name, content in sharded().items():
        if "00004-of" not in name:
            (record.parent / name).write_bytes(content)
    assert "gated" in missing(planted)  # one of its shards is not here
    (record.parent / "model-00004-of-00004.safetensors").write_bytes(checkpoint(TOWER + "b"))
    assert missing(planted) is None
    assert len(fetch(planted, record)) == 3
    assert hub.asked == []


def test_a_download_of_an_older_card_gives_way_and_is_kept(hub, record):
    hub.add("org/net", {"w.bin": b"old"})
    fetch(card(["w.bin"]), record)
    record.unlink()
    hub.add("org/net", {"w.bin": b"new"}, revision="f" * 40)
    got = fetch(card(["w.bin"], revision="f" * 40), record)
    assert got["w.bin"].read_bytes() == b"new"
    assert (record.parent / "w.bin.rejected").read_bytes() == b"old"


# --------------------------------------------------------------------------- refusals


def test_gated_without_a_token_is_one_message_with_page_and_token(hub, record):
    hub.add("org/net", {"w.bin": b"x", "v.bin": b"y"}, gated=True)
    text = refused(card(["w.bin", "v.bin"], **GATED), record)
    assert "accept the terms at https://terms.example/net" in text
    assert "HF_TOKEN" in text
    assert "hf auth login" in text
    assert str(record.parent / "w.bin") in text
    assert len(text.splitlines()) == 2
    page = refused(card(["w.bin"]), record)  # the card does not know that it is gated
    assert "https://huggingface.co/org/net" in page


def test_gated_with_a_token_that_has_no_access(hub, record, monkeypatch):
    hub.add("org/net", {"w.bin": b"x"}, gated=True)
    hub.others.add("hf_secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = refused(card(["w.bin"], **GATED), record)
    assert "has no access" in text
    assert "https://terms.example/net" in text
    assert "hf_secret" not in text


def test_a_token_opens_the_gate_and_is_shown_to_the_hub_alone(hub, record, monkeypatch, capfd):
    hub.add("org/net", {"w.bin": b"x", "config.json": b"{}"}, gated=True)
    hub.readers.add("hf_secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(card(["w.bin", "config.json"], **GATED), record)["w.bin"].read_bytes() == b"x"
    tokens = {(a.host, a.token) for a in hub.asked}
    assert tokens == {("127.0.0.1", "hf_secret"), ("localhost", None)}
    assert "hf_secret" not in "".join(capfd.readouterr())
    assert not any("hf_secret" in p.read_text("latin-1") for p in record.parent.iterdir())


def test_a_wrong_token_is_named_as_such(hub, record, monkeypatch):
    hub.add("org/net", {"w.bin": b"x"})
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    text = refused(card(["w.bin"]), record)
    assert "401" in text
    assert "token was not accepted" in text
    assert "hf_wrong" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"repo": "org/nothing"}, "correct weights.repo"),
        ({"revision": "e" * 40}, f"has no revision '{'e' * 40}'"),
        ({"files": ["v.bin"]}, f"revision '{REVISION}' has no file 'v.bin'"),
    ],
)
@pytest.mark.parametrize("token", ["", "hf_good"])
def test_what_is_not_there_is_named(hub, record, monkeypatch, change, words, token):
    hub.add("org/net", {"w.bin": b"x"})
    if token:
        hub.others.add(token)
        monkeypatch.setenv("HF_TOKEN", token)
    text = refused(card(**({"files": ["w.bin"]} | change)), record)
    assert words in text


def test_a_hub_in_trouble_is_named_with_its_status(hub, record):
    hub.broken = 503
    assert "status 503" in refused(card(["w.bin"]), record)


def test_no_network_says_what_to_do(record, monkeypatch, tmp_path):
    with Server() as gone:
        url = gone.url
    monkeypatch.setenv("HF_ENDPOINT", url)
    text = refused(card(["w.bin"]), record)
    assert url in text
    assert "check the network" in text
    assert f"place the file at {record.parent / 'w.bin'}" in text


def test_a_card_without_revision_or_files_is_refused(hub, record):
    assert "pins no revision" in refused(card(["w.bin"], revision=None), record)
    assert "names no files" in refused(card(), record)
    assert "names no files" in missing(card())


def test_a_branch_is_warned_about(hub, record, caplog):
    hub.add("org/net", {"w.bin": b"x"})
    with caplog.at_level(logging.WARNING, "discern"):
        fetch(card(["w.bin"], revision="main"), record)
    assert "'main' may move" in caplog.text
