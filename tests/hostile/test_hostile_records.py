"""JSON that the workflow keeps of its work, damaged: a clear error that says which file to delete."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from discern import paths
from discern.contracts import AUDIT_SHAPE, IDENTICAL_SHAPE
from discern.data.originals.fetch import missing
from discern.dataset_card import DatasetCard
from discern.encoders.record import read_weights, weights_digest, write_record
from discern.fetching.transfer import LEDGER, is_here
from discern.files import has_shape, read_record
from discern.registry import Registry
from tests.hostile.bounds import guarded, scratch, tried
from tests.hostile.test_hostile_cards import ROOT, changed
from tests.hostile.values import damaged, values
from tests.survived import survived

COUNT = {"tried": 0}
CARD = Registry([ROOT / "registry"]).datasets["breastus"]
GOOD = {
    "audit": {
        "duplicates": [{"image_ids": ["a", "b"], "labels": ["x"]}],
        "near_duplicates": [],
        "crossing_labels": 1,
    },
    "identical": {"pairs": [{"a": "x", "b": "y", "same": None, "difference": 0.5}]},
    "weights": {"files": {"a": {"path": "a", "sha256": "0", "bytes": 1}}, "digest": "0"},
    "fetched": {"dataset": "breastus", "root": "x", "source": [], "files": {}},
    "ledger": {"a": {"sha256": "0", "origin": "x"}},
}


def use(kind, folder, text):
    """What the stages do with a record of each kind."""
    COUNT["tried"] += 1
    file = folder / (LEDGER if kind == "ledger" else "fetched.json")
    file.write_bytes(text)
    (folder / "a").write_bytes(b"x")
    with guarded():
        if kind == "audit":
            content = read_record(file, AUDIT_SHAPE)
            sum(len(c["image_ids"]) for c in content.get("duplicates", []))
        elif kind == "identical":
            [(p["a"], p["b"], p["same"]) for p in read_record(file, IDENTICAL_SHAPE)["pairs"]]
        elif kind == "weights":
            weights_digest(file)
            for path in read_weights(file).values():
                assert path.resolve().is_relative_to(folder.resolve())
        elif kind == "fetched":
            missing(CARD, folder / "nowhere", file)
        else:
            is_here(folder / "a", "x", None)


@settings(max_examples=tried(60))
@given(data=st.data())
def test_records_of_another_shape(data):
    kind = data.draw(st.sampled_from(sorted(GOOD)))
    content = data.draw(values) if data.draw(st.booleans()) else changed(data, GOOD[kind], 3)
    with scratch() as folder:
        use(kind, folder, json.dumps(content, default=str).encode())


@settings(max_examples=tried(60))
@given(data=st.data())
def test_damaged_records(data):
    kind = data.draw(st.sampled_from(sorted(GOOD)))
    with scratch() as folder:
        use(kind, folder, data.draw(damaged(json.dumps(GOOD[kind], indent=2).encode())))


def test_records_that_are_no_records():
    for text in (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"NaN",
        b"null",
        b"",
        b"\xff",
        b'{"files": {"a": {"path": "../../a", "bytes": 1}}, "digest": "0"}',
        b"9" * 5000,
        b'"\\ud800"',
    ):
        for kind in GOOD:
            with scratch() as folder:
                use(kind, folder, text)


def test_real_records_have_their_shape(tmp_path):
    """The shapes are not stricter than what is written."""
    (tmp_path / "a.bin").write_bytes(b"x")
    write_record("x", [tmp_path / "a.bin"], tmp_path / "fetched.json")
    assert read_weights(tmp_path / "fetched.json") == {"a.bin": tmp_path / "a.bin"}
    assert has_shape(GOOD["audit"], AUDIT_SHAPE)
    assert has_shape(GOOD["identical"], IDENTICAL_SHAPE)
    for file in ROOT.glob(paths.AUDIT.format(dataset="*")):
        read_record(file, AUDIT_SHAPE)
    assert isinstance(CARD, DatasetCard)
    survived("records in JSON: damaged", tried=COUNT["tried"], losses=0)
