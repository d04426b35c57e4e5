"""The authors' own runtimes in a study: ordinary models, each with its environment; code only if allowed."""

import pytest
import yaml

from tests.workflow.harness import Project

STUDY = "official.yaml"


@pytest.fixture
def checkout(tmp_path):
    """A fresh copy of the checkout and a function that writes a study into it."""
    project = Project.copy_to(tmp_path / "project")

    def study(*models, **fields):
        content = {"study": "official", "models": list(models), "datasets": ["mr_organs"]}
        (project.path / STUDY).write_text(yaml.safe_dump(content | fields))
        return project

    return study


def test_official_runtimes_are_planned_as_any_model(checkout):
    names = ["llava@official", "llava_med@official", "llava@official@projector_patch_mean"]
    plan = checkout(*names).plan(STUDY)
    for name in names:
        assert ("extract_features", f"dataset=mr_organs, model={name}") in plan.jobs
    for name in names[:2]:  # the projector reads the files of the model that it belongs to
        assert ("fetch_weights", f"model={name}") in plan.jobs
    assert plan.rules["fetch_weights"] == 2
    environments = {wildcards for rule, wildcards in plan.jobs if rule == "build_environment"}
    built = {part.split("=")[1] for text in environments for part in text.split(", ") if "env=" in part}
    assert {"llava_official", "llava_med_official"} <= built


def test_remote_code_waits_for_the_study_s_word(checkout):
    target = "results/shared/features/mr_organs/conceptclip@official.parquet"
    project = checkout("pixels32")
    refused = project.snakemake("--dry-run", target, study=STUDY)
    assert refused.status != 0
    assert "model 'conceptclip@official' runs code published with its weights" in refused.text
    refused = checkout("conceptclip@official").snakemake("--dry-run", study=STUDY)
    assert refused.status != 0
    assert "registry/models/conceptclip.yaml: model 'conceptclip@official' runs code" in refused.text
    assert "JerrryNie/ConceptCLIP at revision c91b537cd004630f1e262ef1975200070629a8a9" in refused.text
    assert "set `allow_remote_code: true`" in refused.text
    plan = checkout("conceptclip@official", allow_remote_code=True).plan(STUDY)
    assert ("extract_features", "dataset=mr_organs, model=conceptclip@official") in plan.jobs
