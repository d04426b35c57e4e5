"""The committed JSON schemas are those of the typed models."""

import json
from pathlib import Path

import pytest

from discern import schemas

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", schemas.MODELS)
def test_committed_schema_is_in_step(name):
    file = ROOT / schemas.FOLDER / f"{name}.schema.json"
    assert file.read_text() == schemas.text(name), "run: make schemas"


def test_schemas_refuse_unknown_fields_and_know_the_choices():
    study, model = schemas.schema(schemas.MODELS["study"]), schemas.schema(schemas.MODELS["model"])
    assert study["additionalProperties"] is False
    assert "timm" in json.dumps(model["$defs"]["Loader"])


def test_writing(tmp_path):
    files = schemas.write_schemas(tmp_path)
    assert [f.name for f in files] == ["study.schema.json", "model.schema.json", "dataset.schema.json"]
    assert all(f.read_text() == schemas.text(f.name.split(".")[0]) for f in files)


def test_documented_fields_are_in_step():
    page = (ROOT / schemas.FIELDS).read_text()
    assert schemas.with_fields(page) == page, "run: make schemas"


def test_every_field_of_every_card_is_documented():
    page = (ROOT / schemas.FIELDS).read_text()
    for name in ("model", "dataset"):
        for field in schemas.MODELS[name].model_fields:
            assert f"| `{field}` |" in page, field


def test_a_changed_table_is_made_anew():
    page = (ROOT / schemas.FIELDS).read_text()
    assert schemas.with_fields(page.replace("| `weights` |", "| `wheights` |")) == page
