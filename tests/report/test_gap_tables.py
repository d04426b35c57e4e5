"""The gap between the protocols in every format: numbers, intervals, marks, and what stands where none is."""

import csv
import io

import pytest

from discern import paths
from discern.report.gaps import gap_records, gap_tables
from discern.report.layout import lay_out
from discern.report.records import collect
from discern.report.site import render_report
from discern.report.table_formats import FORMATS
from discern.report.tables import build_tables
from discern.results import text

GAPS = {
    ("mr", "best"): (0.1423, 0.0981, 0.181),
    ("mr", "tied"): (-0.02, -0.061, 0.0204),
    ("mr", "pixels"): (-0.05, -0.09, -0.01),
}


@pytest.fixture
def tables(both):
    project, study = both
    project.gaps("s", GAPS)
    records = collect(study, project.registry, project.root)
    return {t.name: t for t in gap_tables(study, project.registry, records, project.root)}


def row(table, model):
    return next(r for _, rows in table.sections for r in rows if r.model == model)


def test_gaps_intervals_and_marks(tables):
    assert list(tables) == ["gap", "gap_macro_f1"]
    table = tables["gap"]
    assert [c.dataset for c in table.columns] == ["ct", "mr"]
    cells = {m: row(table, m).cells[1] for m in ("best", "tied", "pixels")}
    assert {m: c.text for m, c in cells.items()} == {
        "best": "+14.2 [+9.8, +18.1]", "tied": "−2.0 [−6.1, +2.0]", "pixels": "−5.0 [−9.0, −1.0]",
    }  # fmt: skip
    assert {m: c.rank for m, c in cells.items()} == {"best": 1, "tied": 0, "pixels": 1}
    assert "Groups held out by image and by group: MR: 22 and 4." in table.legend
    assert any("the interval is rough" in line for line in table.legend)


def test_cells_without_a_gap_say_why(tables):
    table = tables["gap"]
    notes = {n.number: n.text for n in table.notes}
    ct = [row(table, m).cells[0] for m in ("best", "tied", "worst", "pixels")]
    assert {c.text for c in ct} == {"no group key"}
    assert {notes[c.note] for c in ct} == {"no group key: no patient is named"}
    worst = row(table, "worst").cells[1]
    assert (worst.text, notes[worst.note]) == ("—", "split_dataset: not made yet")
    assert "Partial: 3 of 4 cells are made." in table.legend


def test_a_gap_that_was_not_computed_names_its_log(both):
    project, study = both
    log = paths.STUDY_LOG.format(study="s", rule="compare_protocols")
    project.write(log, "error: other images\n")
    records = collect(study, project.registry, project.root)
    found = gap_records(study, project.registry, records, project.root)
    best = next(r for r in found if (r.model, r.dataset) == ("best", "mr"))
    assert (best.status, best.failure.stage, best.failure.reason) == (
        "failed", "compare_protocols", "other images",
    )  # fmt: skip
    project.gaps("s", {("mr", "tied"): GAPS["mr", "tied"]})  # of an earlier run, without `best`
    found = gap_records(study, project.registry, records, project.root)
    best = next(r for r in found if (r.model, r.dataset) == ("best", "mr"))
    assert (best.failure.reason, best.failure.log) == ("not made yet", "")


def test_without_an_interval_the_gap_stands_alone(both):
    project, study = both
    project.gaps("s", {("mr", "best"): (0.1, None, None)})
    records = collect(study, project.registry, project.root)
    cell = row(gap_tables(study, project.registry, records, project.root)[0], "best").cells[1]
    assert (cell.text, cell.rank) == ("+10.0", 0)


def test_every_format_spells_it(tables):
    table = tables["gap"]
    spelt = {name: spell(table) for name, spell in FORMATS.items()}
    assert "| Best | no group key<sup>1</sup> | **+14.2 [+9.8, +18.1]** |" in spelt["md"]
    assert "**Bold**: the interval excludes 0." in spelt["md"]
    assert r"\textbf{+14.2 [+9.8, +18.1]}" in spelt["tex"]
    assert "$-$2.0 [$-$6.1, +2.0]" in spelt["tex"]
    assert "<strong>+14.2 [+9.8, +18.1]</strong>" in spelt["html"]
    assert "+14.2 [+9.8, +18.1]*" in spelt["txt"]
    assert "second best" not in "".join(spelt.values())
    lines = {r["model"]: r for r in csv.DictReader(io.StringIO(spelt["csv"]))}
    best = {f: lines["best"][f"mr.{f}"] for f in ("gap", "low", "high", "image", "group")}
    assert list(map(float, best.values())) == [14.23, 9.81, 18.1, 64.23, 50]
    assert lines["best"]["ct.gap"] == lines["worst"]["mr.gap"] == ""


def test_the_group_table_says_where_no_group_key_exists(both):
    project, study = both
    records = collect(study, project.registry, project.root)
    table = lay_out(records, "accuracy", "group")
    assert [c.text for c in row(table, "best").cells] == ["no group key", "62.0 ± 2.0"]
    assert "Partial: 3 of 4 cells are made." in table.legend
    for spell in FORMATS.values():
        if spell is not FORMATS["csv"]:
            assert "no group key: no patient is named" in " ".join(spell(table).split())


def test_files_page_and_terminal_show_the_gap(both, monkeypatch):
    project, study = both
    project.gaps("s", GAPS)
    folder = project.root / paths.TABLES.format(study="s")
    build_tables(study, project.registry, folder, root=project.root)
    names = {p.name for p in folder.iterdir()}
    assert {f"{t}.{e}" for t in ("gap", "gap_macro_f1") for e in FORMATS} <= names
    assert not {"gap.svg", "gap_macro_f1.svg"} & names
    shown = text("s", project.root)
    assert shown.index("split by group") < shown.index("+14.2 [+9.8, +18.1]")
    render_report(study, project.registry, project.root / "index.html", root=project.root)
    page = (project.root / "index.html").read_text()
    assert page.count("<strong>+14.2 [+9.8, +18.1]</strong>") == 2  # by both metrics
    assert page.index('id="leakage"') < page.index('id="gap"')


def test_a_study_of_one_protocol_has_no_gap_table(small):
    project, study = small
    project.gaps("s", GAPS)
    records = collect(study, project.registry, project.root)
    assert gap_tables(study, project.registry, records, project.root) == []
