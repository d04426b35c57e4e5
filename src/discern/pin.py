"""The lines that pin a model's files: commit, names, sizes and digests, as the hub has them now.

For cards whose revision or file names could not be found out in advance. Nothing is written: what a
study runs on is decided by a person.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence

from discern.errors import DiscernError, problem
from discern.fetching.hub import shards_of
from discern.fetching.hub_api import Published, api_of, ask, file_of, list_files, read
from discern.fetching.hub_errors import page_of
from discern.model_card import ModelCard
from discern.sources import HubFile, size_text

CHECKPOINTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".tar", ".onnx")
INDEX = re.compile(r"\.(safetensors|bin)\.index\.json$")


def pin(card: ModelCard) -> str:
    """YAML lines for ``weights`` (and the tokenizer's files) of a card, with comments.

    Raises DiscernError if the card's weights do not come from the hub, or the hub refuses.
    """
    if not isinstance(card.weights, HubFile):
        raise problem(
            f"model '{card.name}'",
            f"its weights are of kind '{card.weights.kind}'; only those of kind 'hub' have a revision to pin",
        )
    text = "weights:\n" + _lines(card.weights, card.wanted_prefixes())
    for source in card.text.tokenizer.files if card.text else []:
        if isinstance(source, HubFile):
            text += "# text.tokenizer.files:\n" + _lines(source, [""])
    return text


def _lines(source: HubFile, prefixes: Sequence[str]) -> str:
    revision = urllib.parse.quote(source.revision or "main", safe="")
    facts, _ = ask(f"{api_of(source)}/revision/{revision}", source)
    commit = str(facts["sha"])
    files = list_files(source, commit)
    index, listed, remarks = _chosen(source, [file.name for file in files])
    shards: list[str] = []
    if index:
        try:
            shards = shards_of(read(file_of(source, commit, index), source)[0], index, prefixes)
        except DiscernError as error:
            remarks.append(f"size and digests without the shards: {str(error).splitlines()[0]}")
    chosen = [file for file in files if file.name in {index, *listed, *shards}]
    lines = ["kind: hub", f"repo: {source.repo}", f"revision: {commit}"]
    lines += [f"index: {index}"] if index else []
    lines += ["files:", *(f"  - {name}" for name in listed)] if listed else []
    lines += _facts(chosen)
    if facts.get("gated"):
        lines += ["gated: true", f"terms: {page_of(source)}"]
    remarks += [f"licence stated there: {(facts.get('cardData') or {}).get('license', 'none')}"]
    others = [f"  {file.name} ({size_text(file.size)})" for file in files if file not in chosen]
    remarks += ["not fetched:", *others] if others else []
    return "".join(f"  {line}\n" for line in [*lines, *(f"# {remark}" for remark in remarks)])


def _facts(chosen: list[Published]) -> list[str]:
    digests = [f"  {file.name}: {file.sha256}" for file in chosen if file.sha256]
    size = [f"bytes: {sum(file.size for file in chosen)}"] if chosen else []
    return [*size, *(["sha256:", *digests] if digests else [])]


def _chosen(source: HubFile, there: list[str]) -> tuple[str, list[str], list[str]]:
    """Index, listed files and remarks: the card's own choice, or a proposal where it makes none."""
    if source.files or source.index:
        named = [name for name in (source.index, *source.files) if name]
        remarks = [f"not there: {name}" for name in named if name not in there]
        return source.index if source.index in there else "", [n for n in source.files if n in there], remarks
    indices = sorted((name for name in there if INDEX.search(name)), key=lambda name: ".bin." in name)
    if indices:
        return indices[0], [], []
    found = [name for name in there if name.endswith(CHECKPOINTS)]
    return "", found, ["keep only what the loader reads"] if len(found) > 1 else []
