"""Every table says which reading of each data set it shows."""

import csv

import pytest

from discern.report.layout import lay_out
from discern.report.readings import decoding_words, reading_line, size
from discern.report.records import collect
from discern.report.table_formats import FORMATS, to_html, to_latex, to_markdown, to_text
from discern.report.tables import build_tables

FIELDS = {
    "reading": "Both magnifications.",
    "pool": ["train", "val"],
    "decoding": {"window": {"center": 40, "width": 400}},
    "group_key": "patient",
}


def line(project, study, protocol="image", name="ct"):
    card = project.registry.datasets[name]
    return reading_line(card, study, protocol, size(card, project.root))


def test_a_plain_data_set(small):
    project, study = small
    assert line(project, study) == "CT & friends (ct): n = 40, 2 classes; pool: all images."


def test_pool_window_reading_groups_and_duplicates(small):
    project, study = small
    project.dataset("ct", title="CT", **FIELDS)
    project.manifest("ct", [0] * 30 + [1] * 10)
    said = "CT (ct): n = 40, 2 classes; pool: train + val; window: centre 40, width 400; Both magnifications"
    assert line(project, study) == said + "."
    assert line(project, study, "group") == said + "; groups: patient, 10."
    study = study.model_copy(update={"split": study.split.model_copy(update={"duplicates": "together"})})
    assert line(project, study).endswith("; near-duplicates on one side of every split.")


def test_before_it_is_prepared_the_card_speaks(small):
    project, study = small
    project.dataset("new", group_key="lesion")
    assert line(project, study, "group", "new") == (
        "new (new): n unknown, 2 classes; pool: all images; groups: lesion."
    )


@pytest.mark.parametrize(
    ("decoding", "words"),
    [
        ({}, []),
        ({"window": "file"}, []),
        ({"window": "ct_lung", "transparency": "white"}, ["window: ct_lung", "transparency: white"]),
        ({"window": {"low": -100, "high": 300.5}, "frames": "all"}, ["window: -100 to 300.5", "frames: all"]),
    ],
)
def test_only_what_differs_from_the_standard_decoding_is_said(project, decoding, words):
    project.dataset("ct", decoding=decoding)
    assert decoding_words(project.registry.datasets["ct"].decoding) == words


@pytest.fixture
def read(small):
    """The small study with a reading of ``ct`` beside it."""
    project, study = small
    readings = {"binary_100x": {"reading": "Magnification 100 alone, 50 % of a_b", "group_key": None}}
    project.dataset("ct", title="CT & friends", readings=readings)
    for model in study.models:
        project.scores("s", "ct@binary_100x", model, [0.5, 0.6])
    project.manifest("ct@binary_100x", [0] * 9 + [1] * 3)
    return project, study.model_copy(update={"datasets": ["ct", "ct@binary_100x"]})


def test_columns_and_lines_name_the_reading_in_every_format(read):
    project, study = read
    table = lay_out(collect(study, project.registry, project.root), "accuracy", "image")
    assert [c.title for c in table.columns] == ["CT & friends", "CT & friends [binary 100x]"]
    words = "n = 12, 2 classes; pool: all images; Magnification 100 alone, 50 % of a_b."
    assert words in " ".join(to_text(table).split())
    assert words.replace("_", r"\_") in to_markdown(table)
    assert words.replace("_", r"\_").replace("%", r"\%") in to_latex(table)
    assert f"<li>CT &amp; friends [binary 100x] (ct@binary_100x): {words}</li>" in to_html(table)
    assert r"CT & friends \[binary 100x\] (CT)<br>n = 12" in to_markdown(table)
    assert "ct@binary_100x.mean" in FORMATS["csv"](table).splitlines()[0]


def test_the_long_form_has_the_reading_as_a_column(read):
    project, study = read
    build_tables(study, project.registry, project.root / "out", root=project.root)
    rows = list(csv.DictReader((project.root / "out/scores.csv").open(encoding="utf-8")))
    assert {(r["dataset"], r["reading"]) for r in rows} == {
        ("ct", ""), ("ct@binary_100x", "Magnification 100 alone, 50 % of a_b"),
    }  # fmt: skip
