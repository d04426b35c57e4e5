"""Readings and both protocols through the real workflow: shared features, a gap with its interval."""

import csv
import json

import pytest
import yaml

from discern.contracts import GAPS, MANIFEST, SPLITS, read_table

STUDY = {
    "study": "leakage",
    "models": ["pixels32", "mobilenetv2"],
    "datasets": ["ct_organs", "ct_organs@regions", "mr_organs"],
    "split": {"protocols": ["image", "group"], "duplicates": "together"},
    "umap": {"datasets": []},
    "rise": {"datasets": []},
}
REGIONS = {
    "reading": "bones against soft organs, muscles left out",
    "subset": True,
    "classes": [{"name": "bone"}, {"name": "organ"}],
    "adapter": {
        "labels": {name: "bone" for name in ("hip_bone", "sacrum", "vertebra")}
        | {name: None for name in ("back_muscle", "gluteal_muscle", "iliopsoas")}
        | dict.fromkeys(
            ("colon", "kidney", "liver", "small_bowel", "spleen", "stomach", "urinary_bladder"), "organ"
        ),
    },
}


@pytest.fixture
def run(project):
    project.edit("registry/datasets/ct_organs.yaml", readings={"regions": REGIONS})
    (project.path / "leakage.yaml").write_text(yaml.safe_dump(STUDY))
    done = project.snakemake(study="leakage.yaml")
    assert done.status == 0, done.text[-20000:]
    return project, done


def test_a_reading_and_both_protocols(run):
    project, done = run
    results = project.path / "results" / "leakage"
    # Features were there already: the reading is a subset of them, the protocols share them.
    assert done.rules["extract_features"] == 0
    assert done.rules["prepare_dataset"] == 1
    assert done.rules["fit_svm"] == 2 * (2 + 2 + 1)
    _labels_are_those_of_the_reading(project)
    _groups_and_clusters_do_not_straddle(results)
    _gaps_are_there(results)


def _labels_are_those_of_the_reading(project):
    folder = project.path / "results" / "shared" / "manifests"
    table, about = read_table(MANIFEST, folder / "ct_organs@regions.parquet")
    base, _ = read_table(MANIFEST, folder / "ct_organs.parquet")
    assert about["classes"] == ["bone", "organ"]
    assert about["reading"] == REGIONS["reading"]
    names = dict(zip(base["image_id"].to_pylist(), base["label_name"].to_pylist(), strict=True))
    wanted = {i: REGIONS["adapter"]["labels"][name] for i, name in names.items()}
    found = dict(zip(table["image_id"].to_pylist(), table["label_name"].to_pylist(), strict=True))
    assert found == {i: name for i, name in wanted.items() if name}


def _groups_and_clusters_do_not_straddle(results):
    for file in sorted((results / "splits").glob("*/*.parquet")):
        _, about = read_table(SPLITS, file)
        assert about["straddling_clusters"] == 0, file
        if file.stem == "group":
            assert about["straddling_groups"] == 0, file
        elif file.parent.name != "mr_organs":  # without known groups
            assert about["straddling_groups"] > 0, file


def _gaps_are_there(results):
    table, _ = read_table(GAPS, results / "tables" / "gaps.parquet")
    rows = [r for r in table.to_pylist() if r["metric"] == "accuracy"]
    assert {(r["dataset"], r["model"]) for r in rows} == {
        (d, m) for d in ("ct_organs", "ct_organs@regions") for m in STUDY["models"]
    }
    for row in rows:
        assert row["low"] <= row["difference"] <= row["high"]
    with (results / "tables" / "scores.csv").open() as handle:
        scores = list(csv.DictReader(handle))
    assert {r["reading"] for r in scores if r["dataset"] == "ct_organs@regions"} == {REGIONS["reading"]}
    page = (results / "report" / "index.html").read_text()
    assert REGIONS["reading"] in page
    assert "no group key" in page
    assert json.loads((results / "neighbours" / "ct_organs.json").read_text())
