"""The README's five-line cards, one for each kind of adapter, in one study from files to tables."""

import csv
import math

import pytest
import yaml

from discern import paths
from tests.data.own_data import WRITERS, cards, write_all
from tests.workflow.harness import Project

STUDY = {
    "study": "own",
    "models": ["pixels32"],
    "datasets": list(WRITERS),
    "data_root": "own",
    "reference": None,
    "split": {"protocols": ["image"], "folds": 3},
    "svm": {"t": [1]},
    "umap": {"datasets": []},
    "rise": {"datasets": []},
    "compare": {"n_bootstrap": 20},
}
FILE = "config/own.yaml"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A checkout with the six cards, their files and a finished study."""
    project = Project.copy_to(tmp_path_factory.mktemp("own") / "project")
    for name, card in cards().items():
        (project.path / f"registry/datasets/{name}.yaml").write_text(yaml.safe_dump(card))
    (project.path / FILE).write_text(yaml.safe_dump(STUDY))
    write_all(project.path / "own", project.path / "my_data.py")
    run = project.snakemake(study=FILE)
    assert run.status == 0, run.text[-20000:]
    return project


def test_all_six_stand_in_the_tables(own):
    with open(own.path / paths.TIDY.format(study="own"), newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["dataset"], row["status"]) for row in rows} == {(name, "made") for name in WRITERS}
    scores = {row["dataset"]: float(row["mean"]) for row in rows if row["metric"] == "macro_f1"}
    assert scores.keys() == WRITERS.keys()
    assert all(math.isfinite(score) and score > 90 for score in scores.values()), scores  # stripes are easy
    page = (own.path / paths.REPORT.format(study="own")).read_text()
    assert all(name in page for name in WRITERS)


def test_a_second_run_does_nothing_and_a_changed_function_touches_its_data_set_alone(own):
    assert not own.plan(FILE).rules
    module = own.path / "my_data.py"
    module.write_text(module.read_text().replace("sorted(", "list("))
    planned = own.plan(FILE)
    touched = {w for (rule, w) in planned.jobs if w.startswith("dataset=")}
    assert touched
    assert all("my_reader" in wildcards for wildcards in touched), touched
