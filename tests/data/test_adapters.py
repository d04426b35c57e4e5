"""What all adapters have in common, on the README's cards for one's own data."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from own_data import WRITERS, N, cards, every, write_all

from discern.contracts import MANIFEST, read_table
from discern.data.adapters import scan
from discern.data.originals.fetch import fetch_dataset
from discern.data.pictures.images import Pictures
from discern.data.preparation.manifest import prepare_dataset
from discern.dataset_card import DatasetCard
from discern.plan import dump
from discern.registry import Registry

REGISTRY = Registry([Path(__file__).parents[2] / "registry"])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_all(folder, folder / "my_data.py")
    return folder


@pytest.fixture
def own(written, monkeypatch):
    monkeypatch.chdir(written)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield written
    sys.modules.pop("my_data", None)


def test_the_readme_has_a_card_of_each_kind_in_five_lines():
    assert cards().keys() == WRITERS.keys()
    kinds = {DatasetCard.model_validate(card).adapter.kind for card in cards().values()}
    assert kinds == {"image_folder", "csv", "npz", "dicom_folder", "parquet", "python"}
    for card in cards().values():
        assert len(card) <= 5


@pytest.mark.parametrize("name", WRITERS)
def test_a_card_of_the_readme_reads_its_files(own, name):
    card = DatasetCard.model_validate(cards()[name])
    rows = scan(card, own / name).rows
    assert sorted(card.class_names.index(row.label_name) for row in rows) == [label for label, _ in every()]
    assert len({row.image_id for row in rows}) == 2 * N
    if card.group_key:
        assert len({row.group for row in rows}) == N // 2
    pictures = Pictures(own / name, own / "made", card.decoding)
    for row in rows:  # stripes lie in class 0 and stand in class 1
        grey = np.asarray(pictures.open(row.path).convert("L"), dtype=float)
        standing = grey.mean(axis=0).std() > grey.mean(axis=1).std()
        assert standing == (row.label_name == card.class_names[1]), row


@pytest.mark.parametrize("name", WRITERS)
def test_a_card_of_the_readme_is_prepared(own, tmp_path, name):
    card = DatasetCard.model_validate_json(dump(DatasetCard.model_validate(cards()[name])))
    record, manifest = tmp_path / "fetched.json", tmp_path / "m.parquet"
    fetch_dataset(card, own / name, tmp_path / "downloads", record)
    prepare_dataset(card, record, manifest, tmp_path / "a.json", tmp_path / "made", tmp_path / "inspected", 2)
    table, about = read_table(MANIFEST, manifest)
    assert about["counts"] == dict.fromkeys(card.class_names, N)
    masks = [m for m in table["mask_path"].to_pylist() if m]
    assert len(masks) == (name == "my_folders")


def test_counts_of_the_cards_are_those_of_the_paper():
    cards = [REGISTRY.datasets[n] for n in REGISTRY.datasets.names() if REGISTRY.datasets[n].paper_n]
    assert {c.name: c.n for c in cards} == {c.name: c.paper_n for c in cards}
    assert len(cards) == 8
    assert json.loads(cards[0].model_dump_json())["name"] == cards[0].name
