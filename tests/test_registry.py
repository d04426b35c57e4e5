"""Cards: mistakes are refused by name, and every shipped card is true to its sources."""

import csv
from pathlib import Path

import pytest

from discern.environments import read_environment
from discern.errors import DiscernError
from discern.model_card import MODEL_GROUPS, ModelCard
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT / "registry" / "reference" / "takeda2026.csv"
SHIPPED = Registry([ROOT / "registry"])

CARD = """
name: tiny
title: Tiny
group: control
weights: {kind: none}
loader: {route: pixels}
preprocess: {resize: squash, size: 8}
features: [{name: pixels, d: 64}]
environment: data
licence: none
"""
DATA = """
name: dots
title: Dots
modality: CT
source: {kind: manual, page: https://example.org, place: dots.zip}
adapter: {kind: image_folder}
classes: [{name: a, count: 3}, {name: b, count: 4}]
licence: none
"""


@pytest.fixture
def folder(tmp_path):
    for kind in ("models", "datasets"):
        (tmp_path / kind).mkdir()
    (tmp_path / "models" / "tiny.yaml").write_text(CARD)
    (tmp_path / "datasets" / "dots.yaml").write_text(DATA)
    return tmp_path


def refusal(folder, before, after, kind="models"):
    file = folder / kind / ("tiny.yaml" if kind == "models" else "dots.yaml")
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    with pytest.raises(DiscernError) as error:
        getattr(Registry([folder]), kind)[file.stem]
    assert str(file) in str(error.value)
    return str(error.value)


def test_cards_are_read(folder):
    registry = Registry([folder])
    assert registry.models["tiny"].feature.d == 64
    assert registry.datasets["dots"].n == 7


def test_misspelt_field_names_the_right_one(folder):
    message = refusal(folder, "environment: data", "enviroment: data")
    assert "unknown field 'enviroment'; did you mean 'environment'?" in message


def test_misspelt_nested_field_names_the_right_one(folder):
    message = refusal(folder, "size: 8", "size: 8, sice: 8")
    assert "unknown field 'preprocess.sice'; did you mean 'size'" in message


def test_wrong_type_shows_field_and_value(folder):
    assert "features[0].d" in (message := refusal(folder, "d: 64", "d: many"))
    assert "'many'" in message


def test_unknown_choice_lists_the_allowed_ones(folder):
    assert "'onnx'" in refusal(folder, "route: pixels", "route: tensorflow")


def test_duplicate_key_names_the_line(folder):
    assert "line 4: not valid YAML: duplicate key 'title'" in refusal(
        folder, "title: Tiny", "title: Tiny\ntitle: Small"
    )


def test_name_must_equal_the_file(folder):
    assert "found 'tony', must equal the file's name 'tiny'" in refusal(folder, "name: tiny", "name: tony")


def test_class_named_twice(folder):
    assert "class named twice: a" in refusal(folder, "name: b", "name: a", "datasets")


def test_positive_class_must_exist(folder):
    message = refusal(folder, "licence: none", "licence: none\npositive_class: c", "datasets")
    assert "positive_class 'c' is not among the classes" in message


def test_unknown_name_has_a_hint(folder):
    with pytest.raises(DiscernError, match="unknown model 'tinny'; did you mean 'tiny'"):
        Registry([folder]).models["tinny"]


def test_a_name_in_two_folders_is_refused(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "models").mkdir()
    (other / "models" / "tiny.yaml").write_text(CARD)
    with pytest.raises(DiscernError, match="already defined"):
        Registry([folder, other]).models.names()


def test_missing_folder_is_named():
    with pytest.raises(DiscernError, match="nowhere: no such registry folder"):
        Registry(["nowhere"])


# --------------------------------------------------------------------------- the shipped cards


@pytest.mark.parametrize("name", SHIPPED.models.names())
def test_shipped_model(name):
    card = SHIPPED.models[name]
    assert card.group in MODEL_GROUPS
    read_environment(ROOT / "envs" / f"{card.environment}.yaml")  # exists and is pinned
    names = [feature.name for feature in card.features]
    assert len(set(names)) == len(names)
    assert not getattr(card.weights, "gated", False) or card.weights.terms


@pytest.mark.parametrize("name", SHIPPED.datasets.names())
def test_shipped_dataset(name):
    card = SHIPPED.datasets[name]
    assert card.n is None or card.n > 0
    assert card.licence


def test_reading_spec_holds_what_features_depend_on_and_no_words():
    spec = SHIPPED.models["biomedclip"].extraction_spec()
    assert spec["feature"] == {"name": "projected_embedding", "d": 512, "output": ""}
    assert spec["weights"]["revision"]
    assert not {"title", "notes", "licence", "training", "batch_size"} & spec.keys()


def published():
    with PAPER.open() as handle:
        return list(csv.DictReader(handle))


def paper_cards():
    return {c.paper_row: c for c in SHIPPED.models.all() if c.paper_row}


def test_the_papers_rows_and_groups():
    groups = {row["model"]: row["group"] for row in published()}
    assert {row: card.group for row, card in paper_cards().items()} == groups


def test_the_papers_daggers():
    """Modalities and data sets that the paper marks as seen in training follow from the cards."""
    cards = paper_cards()
    for row in published():
        training, data = cards[row["model"]].training, SHIPPED.datasets[row["dataset"]]
        seen = (int(data.modality in training.modalities), int(data.name in training.datasets))
        wanted = (int(row["modality_in_training"]), int(row["dataset_in_training"]))
        assert seen == wanted, (row["model"], row["dataset"])


def test_weights_from_the_hub_are_pinned_or_say_that_they_are_not():
    for card in SHIPPED.models.all():
        source = card.weights
        if source.kind == "hub" and not (source.revision and (source.files or source.index)):
            assert any("revision" in note or "weights file" in note for note in card.notes), card.name


def test_every_paper_card_says_how_far_it_was_verified():
    for card in paper_cards().values():
        assert any("verified" in note.lower() for note in card.notes), card.name
        assert isinstance(card, ModelCard)
