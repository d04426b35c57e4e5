"""The study: defaults, messages, merging; every shipped configuration parses."""

from pathlib import Path

import pytest
import yaml

from discern.config import Study, load_study, read_study
from discern.errors import DiscernError
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = [ROOT / "config.yaml", *sorted((ROOT / "config").glob("*.yaml"))]
SECTIONS = ("split", "svm", "umap", "rise", "compare")


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def study(tmp_path):
    """Write a study that differs from a good one as told, and read it."""

    def read(**changes):
        content = {"study": "try", "models": ["mobilenetv2", "pixels32"], "datasets": ["ct_organs"]} | changes
        file = tmp_path / "try.yaml"
        file.write_text(yaml.safe_dump(content))
        return read_study(file)

    return read


def refusal(read, /, **changes):
    with pytest.raises(DiscernError) as error:
        read(**changes)
    assert "try.yaml" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.name)
def test_shipped_configuration(file):
    """As Snakemake reads it: over config.yaml. No study looks into another's folder."""
    study = read_study(*dict.fromkeys([ROOT / "config.yaml", file]))
    assert study.study == {"config": "paper"}.get(file.stem, file.stem)


def test_the_papers_study_writes_out_the_defaults():
    content = yaml.safe_load((ROOT / "config.yaml").read_text())
    for section in SECTIONS:
        default = Study.model_fields[section].default
        assert content[section].keys() == type(default).model_fields.keys(), section
        assert type(default).model_validate(content[section]) == default, section


def test_the_papers_models_are_in_the_order_of_its_tables():
    import csv

    rows = csv.DictReader((ROOT / "registry/reference/takeda2026.csv").open())
    wanted = list(dict.fromkeys(row["model"] for row in rows))
    registry = Registry()
    assert [registry.models[m].paper_row for m in read_study("config.yaml").models] == wanted


def test_demo_and_ci_say_what_they_are():
    for name in ("demo", "ci"):
        note = read_study(f"config/{name}.yaml").note
        assert "no vision-language model" in note.lower() or "no\nvision-language" in note.lower()
        assert "machine" in note
        assert "nothing" in note


def test_unknown_model_names_place_and_nearest(study):
    message = refusal(study, models=["pixels32", "biomedclib"])
    assert "unknown model 'biomedclib' in" in message
    assert "models[1]; did you mean 'biomedclip'" in message


def test_all_unknown_names_are_reported_together(study):
    message = refusal(study, models=["mobilnetv2"], datasets=["ct_organ"])
    assert "did you mean 'mobilenetv2'" in message
    assert "did you mean 'ct_organs'" in message


def test_misspelt_field_names_the_right_one(study):
    assert "unknown field 'dataset'; did you mean 'datasets'" in refusal(study, dataset=["ct_organs"])
    message = refusal(study, umap={"n_neighbours": [5]})
    assert "'umap.n_neighbours'; did you mean 'n_neighbors'" in message


def test_wrong_type_shows_field_and_value(study):
    message = refusal(study, split={"folds": "five"})
    assert "split.folds" in message
    assert "'five'" in message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"models": ["pixels32", "pixels32"]}, "named twice: pixels32"),
        ({"models": []}, "models"),
        ({"study": "shared"}, "'shared' is the folder"),
        ({"svm": {"t": [10, 1]}}, "must ascend"),
        ({"svm": {"t": [0, 1]}}, "svm.t[0]"),
        ({"split": {"holdout": 1.5}}, "split.holdout"),
        ({"split": {"protocols": ["images"]}}, "split.protocols[0]"),
        ({"rise": {"datasets": ["mr_organs"]}}, "rise.datasets[0]"),
        ({"rise": {"protocol": "group"}}, "rise.protocol: 'group' is not among split.protocols"),
        ({"rise": {"fold": 5}}, "rise.fold: found 5, allowed 0 to 4"),
        ({"umap": {"metric": "euclidean"}}, "umap.metric"),
    ],
)
def test_impossible_value(study, changes, part):
    assert part in refusal(study, **changes)


def test_unknown_reference_is_refused(study):
    with pytest.raises(DiscernError, match="unknown reference table 'takeda2025'; did you mean 'takeda2026'"):
        study(reference="takeda2025")


def test_duplicate_key_names_file_and_line(tmp_path):
    file = tmp_path / "twice.yaml"
    file.write_text("study: a\nmodels: [pixels32]\nstudy: b\n")
    with pytest.raises(DiscernError, match=r"twice.yaml, line 3: not valid YAML: duplicate key 'study'"):
        read_study(file)


def test_missing_file_is_named():
    with pytest.raises(DiscernError, match=r"nowhere\.yaml: no such file"):
        read_study("nowhere.yaml")


def test_merging_replaces_lists_and_keeps_other_keys(tmp_path):
    file = tmp_path / "more.yaml"
    file.write_text("models: [pixels32]\nsvm: {t: [5]}\n")
    study = read_study("config/demo.yaml", file)
    assert study.models == ["pixels32"]
    assert study.svm.t == [5]
    assert study.svm.tolerance == 1e-9
    assert study.umap.n_neighbors == [15, 50]  # of the demo


def test_message_names_the_file_that_set_the_field(tmp_path):
    file = tmp_path / "more.yaml"
    file.write_text("split: {folds: 1}\n")
    with pytest.raises(DiscernError, match=r"more\.yaml: split\.folds"):
        read_study("config/demo.yaml", file)
    with pytest.raises(DiscernError, match=r"more\.yaml: split\.folds"):
        load_study(
            yaml.safe_load(Path("config/demo.yaml").read_text()) | {"split": {"folds": 1}},
            ["config/demo.yaml", file],
        )


def test_selection_keeps_the_studys_order(study):
    chosen = study(datasets=["ct_organs", "mr_organs"], umap={"datasets": ["mr_organs"]})
    assert chosen.selected(chosen.umap.datasets) == ["mr_organs"]
    assert chosen.selected("all") == ["ct_organs", "mr_organs"]
