"""Planted scores come back with the right marks, notes, differences and escapes."""

import csv
import io
import re

import pytest

from discern import paths
from discern.config import Study
from discern.errors import DiscernError
from discern.report.layout import lay_out, tables
from discern.report.records import Score, collect, tidy_rows
from discern.report.table_formats import FORMATS, to_csv, to_html, to_markdown, to_text
from discern.report.table_latex import latex, to_latex
from discern.report.tables import build_tables, read_study, text_table


def records_of(small):
    project, study = small
    return collect(study, project.registry, project.root)


def row(table, model):
    return next(r for _, rows in table.sections for r in rows if r.model == model)


def test_mean_and_sample_deviation_in_percent(small):
    record = next(r for r in records_of(small) if (r.model, r.dataset) == ("worst", "ct"))
    assert record.scores["accuracy"].mean == pytest.approx(80)
    assert record.scores["accuracy"].sd == pytest.approx(2)  # of 78, 80, 82 with n - 1
    assert (record.n, record.classes, record.largest_class) == (40, 2, 75)
    assert "auroc" not in record.scores


def test_marks_ties_and_controls(small):
    table = lay_out(records_of(small), "accuracy", "image")
    marks = {m: [c.rank for c in row(table, m).cells] for m in ("best", "tied", "worst", "pixels")}
    assert marks == {"best": [1, 1], "tied": [1, 1], "worst": [2, 2], "pixels": [0, 0]}
    text = to_markdown(table)
    assert "| Best | **90.0 ± 2.0** | **80.0 ± 2.0** |" in text
    assert "| Worst | <u>80.0 ± 2.0</u> | <u>70.0 ± 2.0</u> |" in text
    assert "| Pixels | 99.0 ± 2.0 | 89.0 ± 2.0 |" in text
    assert "CT & friends (CT)<br>n = 40, 2 classes" in text
    assert "| *Largest class* | 75.0 | 50.0 |" in text


def test_the_largest_class_belongs_to_accuracy_only(small):
    assert "Largest class" not in to_text(lay_out(records_of(small), "macro_f1", "image"))
    assert "Largest class" in text_table(records_of(small), "accuracy")


def test_a_failed_cell_carries_reason_and_log(small):
    project, _ = small
    (project.root / paths.SCORES.format(study="s", dataset="ct", model="tied", protocol="image")).unlink()
    (project.root / paths.FEATURES.format(dataset="ct", model="tied")).unlink()
    log = paths.FEATURES_LOG.format(rule="extract_features", dataset="ct", model="tied")
    project.write(log, "error: 50% of a_b & c < 1\n")
    records = records_of(small)
    table = lay_out(records, "accuracy", "image")
    cell = row(table, "tied").cells[0]
    assert (cell.text, cell.rank, cell.note) == ("—", 0, 1)
    assert row(table, "worst").cells[0].rank == 2
    for spell, reason, path in (
        (to_markdown, r"extract\_features: 50% of a\_b & c \< 1", log),
        (to_text, "[1] extract_features: 50% of a_b & c < 1", log),
        (to_html, "extract_features: 50% of a_b &amp; c &lt; 1", log),
        (to_latex, r"extract\_features: 50\% of a\_b \& c \textless{} 1", log.replace("_", r"\_")),
    ):
        assert reason in spell(table)
        assert path in spell(table)
    assert "Partial: 7 of 8 cells are made." in table.legend
    failed = [r for r in tidy_rows(records) if r["status"] == "failed"]
    assert {(r["model"], r["stage"], r["mean"]) for r in failed} == {("tied", "extract_features", None)}


def test_a_damaged_score_file_is_a_failed_cell(small):
    project, _ = small
    project.write(paths.SCORES.format(study="s", dataset="ct", model="best", protocol="image"), "torn")
    failed = [r for r in records_of(small) if r.status == "failed"]
    assert [(r.model, r.dataset, r.failure.stage) for r in failed] == [("best", "ct", "fit_svm")]
    assert "damaged or truncated" in failed[0].failure.reason


def test_a_damaged_score_file_ends_the_tables_unless_they_may_be_partial(small):
    project, study = small
    project.write(paths.SCORES.format(study="s", dataset="ct", model="best", protocol="image"), "torn")
    out = project.root / "tables"
    with pytest.raises(DiscernError, match=r"damaged or truncated scores file.* repair: .*rm "):
        build_tables(study, project.registry, out, root=project.root)
    assert not out.exists()
    build_tables(study, project.registry, out, partial=True, root=project.root)
    assert "damaged or truncated" in (out / "table3.txt").read_text()


def test_inapplicable_cells_and_data_sets_without_groups(small):
    project, study = small
    project.model(
        "volumes",
        title="Volumes",
        preprocess=None,
        volume={
            "spacing": [1, 1, 1],
            "window": [-1000, 1000],
            "scaled": [0, 1],
            "size": [4, 4, 4],
            "fill": 0,
        },
    )
    study = study.model_copy(
        update={
            "models": [*study.models, "volumes"],
            "split": study.split.model_copy(update={"protocols": ["image", "group"]}),
        }
    )
    records = collect(study, project.registry, project.root)
    image, group = lay_out(records, "accuracy", "image"), lay_out(records, "accuracy", "group")
    assert [c.text for c in row(image, "volumes").cells] == ["n/a", "n/a"]
    assert image.notes[-1].text == "not applicable: volumetric model, 2D data set"
    assert [c.dataset for c in group.columns] == ["ct", "mr"]
    assert [c.text for c in row(group, "best").cells] == ["no group key", "—"]
    assert [c.text for c in row(group, "volumes").cells] == ["n/a", "n/a"]
    assert group.notes[row(group, "best").cells[0].note - 1].text == (
        "no group key: nothing says which images belong together"
    )
    assert group.omitted == []
    assert group.name == "table3.group"


def test_unconverged_fits_are_counted(small):
    project, _ = small
    project.scores("s", "ct", "best", [0.5, 0.5], converged=False)
    table = lay_out(records_of(small), "accuracy", "image")
    assert "1 of the chosen SVM fits did not reach the tolerance (see scores.csv)." in table.legend


def published(small):
    project, study = small
    project.write(
        "registry/reference/paper.csv",
        "model,group,dataset,metric,mean,std,modality_in_training,dataset_in_training\n"
        "The Best,non_vlm,ct,accuracy,92,0.5,0,0\nThe Best,non_vlm,ct,macro_f1,88,0.4,0,0\n",
    )
    project.model("best", title="Best", paper_row="The Best")
    return project, study.model_copy(update={"reference": "paper"})


def test_published_values_and_differences(small):
    project, study = published(small)
    records = collect(study, project.registry, project.root)
    best = next(r for r in records if (r.model, r.dataset) == ("best", "ct"))
    assert best.published == {"accuracy": Score(92, 0.5), "macro_f1": Score(88, 0.4)}
    assert best.difference("accuracy") == pytest.approx(-2)
    assert best.difference("macro_f1") == pytest.approx(2)
    by_name = {t.name: t for t in tables(records)}
    assert list(by_name) == ["table3", "table3_published", "table4", "table4_published"]
    assert "**90.0 ± 2.0** (92, −2.0)" in to_markdown(by_name["table3_published"])
    assert "(92," not in to_markdown(by_name["table3"])
    line = next(
        r for r in csv.DictReader(io.StringIO(to_csv(by_name["table4_published"]))) if r["model"] == "best"
    )
    assert (float(line["ct.published_mean"]), float(line["ct.difference"])) == (88, 2)
    assert line["mr.published_mean"] == ""


def test_published_values_belong_to_the_image_protocol(small):
    project, study = published(small)
    project.dataset("ct", group_key="patient")
    both = study.split.model_copy(update={"protocols": ["image", "group"]})
    records = collect(study.model_copy(update={"split": both}), project.registry, project.root)
    assert {r.protocol for r in records if r.published} == {"image"}


def test_daggers(small):
    project, study = small
    project.model("best", title="Best", training={"modalities": ["mri"], "datasets": ["ct"]})
    table = lay_out(collect(study, project.registry, project.root), "accuracy", "image")
    assert [c.dagger for c in row(table, "best").cells] == ["‡", "†"]
    assert [c.dagger for c in row(table, "worst").cells] == ["", ""]
    assert r"\textbf{90.0 $\pm$ 2.0}$^\ddagger$" in to_latex(table)


def test_any_part_of_a_mixed_modality_counts_as_seen(small):
    project, study = small
    project.dataset("mr", modality="CT and MRI", classes=("a", "b", "c"))
    project.model("best", training={"modalities": ["MRI"]})
    project.model("tied", training={"modalities": ["MR"]})
    records = collect(study, project.registry, project.root)
    assert {(r.model, r.dataset) for r in records if r.modality_seen} == {("best", "mr")}


def test_csv_is_machine_readable(small):
    rows = list(csv.DictReader(io.StringIO(to_csv(lay_out(records_of(small), "accuracy", "image")))))
    assert [r["model"] for r in rows] == ["best", "tied", "worst", "pixels", "largest_class"]
    assert (float(rows[1]["ct.mean"]), float(rows[1]["ct.sd"])) == (90.02, 2)
    assert float(rows[-1]["mr.mean"]) == 50


def test_latex_is_balanced_and_escaped(small):
    project, study = small
    project.dataset("ct", title=r"100% of $a_b & {c} \d ~ ^ # █", classes=("a", "b"))
    text = to_latex(lay_out(collect(study, project.registry, project.root), "accuracy", "image"))
    assert r"100\% of \$a\_b \& \{c\} \textbackslash{}d \textasciitilde{} \textasciicircum{} \# ?" in text
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    for name in ("table*", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}
    assert latex("a_1") == r"a\_1"


def test_html_escapes_names(small):
    project, study = small
    project.model("best", title="<script>alert(1)</script>")
    text = to_html(lay_out(collect(study, project.registry, project.root), "accuracy", "image"))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_build_tables_writes_every_format_and_the_tidy_table(small):
    project, study = small
    out = project.root / "out"
    build_tables(study, project.registry, out, partial=True, root=project.root)
    names = {f"{t}.{e}" for t in ("table3", "table4") for e in (*FORMATS, "svg")} | {"scores.csv"}
    assert {p.name for p in out.iterdir()} == names
    rows = list(csv.DictReader((out / "scores.csv").open(encoding="utf-8")))
    assert len(rows) == 4 * (5 + 4)  # positive_f1 belongs to the binary data set only
    assert "Partial: 8 of 8" in (out / "table3.txt").read_text(encoding="utf-8")


def test_a_study_is_read_from_text_or_file(tmp_path):
    study = Study(study="s", models=["m"], datasets=["d"])
    (tmp_path / "study.json").write_text(study.model_dump_json())
    assert read_study(study.model_dump_json()) == read_study(str(tmp_path / "study.json")) == study
