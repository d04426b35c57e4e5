"""Cards and studies of arbitrary YAML: accepted, or refused in words; what is accepted reaches the jobs."""

import functools
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.config import load_study, read_study
from discern.dataset_card import DatasetCard
from discern.environments import read_environment
from discern.errors import DiscernError
from discern.model_card import ModelCard
from discern.plan import Plan, dump
from discern.validation import load_yaml, parse
from tests.hostile.bounds import guarded, scratch, tried
from tests.hostile.values import values
from tests.survived import survived

ROOT = Path(__file__).resolve().parents[2]
CARDS = {
    ModelCard: sorted((ROOT / "registry" / "models").glob("*.yaml")),
    DatasetCard: sorted((ROOT / "registry" / "datasets").glob("*.yaml")),
}
COUNT = {"tried": 0}

BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
)
MERGES = "\n".join(
    ["a: &a {x: 1}"]
    + [
        f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
)
TEXTS = {
    "nothing": b"",
    "not a mapping": b"[1, 2]",
    "bytes that are no text": b"name: \xff\xfe\x00",
    "a null character": b"name: a\0b",
    "a null character, escaped": b'name: "a\\0b"',
    "a byte-order mark": b"\xef\xbb\xbfname: x",
    "UTF-16": "name: x".encode("utf-16"),
    "aliases of aliases": BOMB.encode(),
    "merges of merges": MERGES.encode(),
    "a list in itself": b"a: &a [*a]",
    "a mapping in itself": b"a: &a {b: *a}",
    "brackets": b"a: " + b"[" * 100_000,
    "closed brackets": b"a: " + b"[" * 5000 + b"]" * 5000,
    "braces": b"{a: " * 100_000,
    "dashes": b"- " * 100_000,
    "indents": b"\n".join(b" " * i + b"a:" for i in range(2000)),
    "a chain of aliases": b"a0: &a0 [x]\n"
    + b"".join(b"a%d: &a%d [*a%d]\n" % (i, i, i - 1) for i in range(1, 3000)),
    "a Python object": b"name: !!python/object/apply:os.system ['touch pwned']",
    "a Python name": b"name: !!python/name:os.system",
    "a new Python object": b"!!python/object/new:os.system ['touch pwned']",
    "a list as a key": b"? [a, b]\n: c",
    "a mapping as a key": b"? {a: b}\n: c",
    "equal keys": b"name: a\nname: b",
    "a huge number": b"version: " + b"9" * 5000,
    "a huge hexadecimal number": b"version: 0x" + b"f" * 5000,
    "not a number": b"version: .nan",
    "a wrong date": b"name: 2024-99-99",
    "a wrong number": b"name: !!int abc",
    "a wrong float": b"name: !!float abc",
    "a wrong boolean": b"name: !!bool abc",
    "a wrong timestamp": b"name: !!timestamp abc",
    "bytes": b"name: !!binary /w==",
    "wrong bytes": b"name: !!binary abc",
    "a set": b"name: !!set {a, b}",
    "an ordered map": b"name: !!omap [a: b]",
    "pairs": b"name: !!pairs [a: b]",
    "a null tag": b"name: !!null abc",
    "an unknown tag": b"name: !own abc",
    "two documents": b"name: a\n---\nname: b",
    "a directive": b"%YAML 9.9\n---\nname: a",
    "a long text": b"name: " + b"a" * 3_000_000,
    "a longer text": b"name: " + b"a" * 5_000_000,
    "many fields": b"".join(b"f%d: x\n" % i for i in range(50_000)),
    "a long key": b"a" * 900 + b": x",
    "yes and no": b"yes: no\non: off",
    "an escape for the terminal": b'"\\e[2J": x',
    "surrogates": b'name: "\\ud800"',
    "an unknown alias": b"name: *unknown",
}


def read(model, text):
    """A card from bytes, as the registry reads it, and everything that jobs get of it."""
    with scratch() as folder, guarded():
        file = folder / "x.yaml"
        file.write_bytes(text)
        COUNT["tried"] += 1
        use(parse(model, load_yaml(file), str(file)))


def use(card):
    """What the workflow makes of an accepted card: text that a job reads back as the same card."""
    assert type(card).model_validate_json(dump(card)) == card
    if isinstance(card, ModelCard):
        dump(card.extraction_spec())
        card.wanted_prefixes()
        dump(card.weights)
    else:
        dump(card.preparation_spec())
        assert card.n is None or card.n < 2**80


@functools.cache
def shipped(model):
    return [yaml.safe_load(file.read_text(encoding="utf-8")) for file in CARDS[model]]


@pytest.mark.parametrize("model", [ModelCard, DatasetCard])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_texts_that_are_no_cards(model, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read(model, text)
    assert not list(tmp_path.iterdir())  # nothing was run


def test_the_bounds_are_told():
    """The guard above would also pass for a card that is accepted: these must be refused, for this reason."""
    reasons = {
        "aliases of aliases": "values",
        "merges of merges": "values",
        "a list in itself": "holds itself",
        "brackets": "levels",
        "indents": "levels",
        "a chain of aliases": "levels",
        "a longer text": "characters",
        "a Python object": "not valid YAML",
        "a huge number": "not valid YAML",
        "a huge hexadecimal number": "number",
        "bytes": "bytes",
        "bytes that are no text": "UTF-8",
    }
    for name, words in reasons.items():
        with scratch() as folder:
            (folder / "x.yaml").write_bytes(TEXTS[name])
            with pytest.raises(DiscernError, match=words):
                load_yaml(folder / "x.yaml")


@pytest.mark.parametrize("model", [ModelCard, DatasetCard])
@settings(max_examples=tried(25))
@given(text=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes(model, text):
    read(model, text)


@pytest.mark.parametrize("model", [ModelCard, DatasetCard])
@settings(max_examples=tried(120))
@given(data=st.data())
def test_shipped_cards_with_odd_fields(model, data):
    """Fields dropped, replaced, added and moved, at any depth of a real card."""
    card = changed(data, data.draw(st.sampled_from(shipped(model))), 3)
    read(model, yaml.safe_dump(card, allow_unicode=True).encode("utf-8", "replace"))


@pytest.mark.parametrize("model", [ModelCard, DatasetCard])
@settings(max_examples=tried(25))
@given(data=st.data())
def test_shipped_cards_with_damaged_text(model, data):
    text = data.draw(st.sampled_from(CARDS[model])).read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 20))
        new = data.draw(
            st.binary(max_size=6)
            | st.sampled_from([b"&a ", b"*a", b"!!set ", b"[", b"{", b": ", b"\n", b"<<: "])
        )
        text = text[:at] + new + text[at + length :]
    read(model, text)


def changed(data, value, times):
    """``value`` with some of its parts exchanged."""
    for _ in range(data.draw(st.integers(1, times))):
        value = _changed(data, value)
    return value


def _changed(data, value):
    if isinstance(value, dict) and value and data.draw(st.integers(0, 9)) < 8:
        key = data.draw(st.sampled_from(sorted(value, key=str)))
        how = data.draw(st.sampled_from(["into", "into", "into", "drop", "replace", "add", "copy"]))
        rest = {k: v for k, v in value.items() if k != key}
        if how == "drop":
            return rest
        if how == "replace":
            return rest | {key: data.draw(values)}
        if how == "add":
            return value | {data.draw(st.sampled_from(["name", "kind", "extra", "@", ""])): data.draw(values)}
        if how == "copy":
            return value | {data.draw(st.sampled_from(sorted(value, key=str))): value[key]}
        return value | {key: _changed(data, value[key])}
    if isinstance(value, list) and value and data.draw(st.integers(0, 9)) < 8:
        index = data.draw(st.integers(0, len(value) - 1))
        how = data.draw(st.sampled_from(["into", "into", "drop", "double"]))
        if how == "drop":
            return value[:index] + value[index + 1 :]
        if how == "double":
            return value + value[index : index + 1]
        return [*value[:index], _changed(data, value[index]), *value[index + 1 :]]
    return data.draw(values)


STUDY = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


@settings(max_examples=tried(40))
@given(data=st.data())
def test_studies_with_odd_fields(data):
    """A study that is accepted can be planned: its places, slices and digests."""
    content = changed(data, STUDY | {"models": ["clip_b16", "pixels32"], "datasets": ["breastus"]}, 3)
    with scratch() as folder, guarded():
        COUNT["tried"] += 1
        file = folder / "study.yaml"
        file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="replace")
        plan_of(read_study(file))


@settings(max_examples=tried(40))
@given(data=st.data())
def test_studies_that_snakemake_read(data):
    """Snakemake hands over what its own reader and ``--config`` made of a study: any values."""
    content = changed(data, STUDY | {"models": ["clip_b16", "pixels32"], "datasets": ["breastus"]}, 3)
    with guarded():
        COUNT["tried"] += 1
        if isinstance(content, dict):
            plan_of(load_study(content, ["no-such-file.yaml"]))


def plan_of(study):
    assert "/" not in study.study
    assert ".." not in study.study
    plan = Plan(study, ROOT)
    dump(study)
    for name in study.datasets:
        plan.data_place(name)
        plan.dataset_source(name)
    assert all(name.startswith("results/shared/") for name in plan.features())


@settings(max_examples=tried(30))
@given(data=st.data())
def test_environment_files(data):
    content = {"channels": ["conda-forge"], "dependencies": ["python=3.11", "pip", {"pip": ["numpy==2.0"]}]}
    content = changed(data, content, 2)
    with scratch() as folder, guarded():
        COUNT["tried"] += 1
        (folder / "x.yaml").write_text(yaml.safe_dump(content), encoding="utf-8", errors="replace")
        read_environment(folder / "x.yaml")


def test_places_of_accepted_names_stay_inside():
    """Names become folders: no card or study may name one elsewhere."""
    random.seed(0)
    refused = 0
    for name in ("../x", "/etc", "a/../b", "..", ".", "", "A", "a b", "x\n", "é", "a" * 300 + "/b"):
        for content in ({"study": name}, {"environment": name}):
            model, base = (ModelCard, shipped(ModelCard)[0]) if "environment" in content else (None, STUDY)
            try:
                parse(model, base | content, "x") if model else load_study(base | content, ["config.yaml"])
            except DiscernError:
                refused += 1
    assert refused == 22
    survived("YAML cards and studies: fuzzed", tried=COUNT["tried"], losses=0)
