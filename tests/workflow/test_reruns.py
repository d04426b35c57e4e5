"""What a change makes run again: exactly what depends on it, proved on the finished real study."""

import os

import pytest
import yaml

N_MODELS, N_DATASETS = 5, 5
PAGES = {"build_tables": 1, "compare_models": 1, "render_report": 1}
AGGREGATION = PAGES | {"match_features": N_DATASETS}  # of a control, which takes no part in find_neighbours


def only(run, wildcard):
    """All jobs that carry wildcards carry this one, but for those that look at all models together."""
    together = {*AGGREGATION, "find_neighbours"}
    return all(wildcard in w for rule, w in run.jobs if w and rule not in together)


def test_a_second_run_does_nothing(finished):
    assert not finished.plan().rules
    assert "Nothing to be done" in finished.snakemake().text


def test_touching_commenting_and_reformatting_rerun_nothing(project):
    for pattern in ("*.yaml", "config/*.yaml", "registry/**/*.yaml", "envs/*.yaml", "workflow/scripts/*.py"):
        for file in project.path.glob(pattern):
            file.write_text(file.read_text() + "\n# a comment\n")
    for file in project.path.glob("registry/**/*.yaml"):
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()), sort_keys=True))
    for file in (project.path / "src").rglob("*.py"):
        os.utime(file)
    assert not project.plan().rules


def test_an_unrelated_module_reruns_nothing(project):
    file = project.path / "src/discern/cli.py"
    file.write_text(file.read_text() + "\n\ndef unrelated():\n    return 1\n")
    assert not project.plan().rules


def test_an_engine_reruns_its_own_stage_and_what_follows(project):
    file = project.path / "src/discern/analysis/umap/embedding.py"
    file.write_text(file.read_text() + "\n\nPLANTED = 1\n")
    assert project.plan().rules == {"embed_umap": N_MODELS, "render_report": 1}


def test_one_loading_route_re_extracts_only_its_own_models(project):
    file = project.path / "src/discern/encoders/onnx_route.py"
    file.write_text(file.read_text() + "\n\nPLANTED = 1\n")
    run = project.plan()
    assert run.rules["extract_features"] == N_DATASETS
    assert only(run, "model=opennsfw_resnet50")


def test_a_new_model_runs_only_its_own_jobs(project):
    card = project.read("registry/models/random_lite0.yaml") | {"name": "random_again"}
    card["loader"] |= {"seed": 1}
    (project.path / "registry/models/random_again.yaml").write_text(yaml.safe_dump(card))
    project.edit("config/ci.yaml", models=[*project.read("config/ci.yaml")["models"], "random_again"])
    run = project.plan()
    assert only(run, "model=random_again")
    assert run.rules == AGGREGATION | {
        "fetch_weights": 1, "extract_features": N_DATASETS, "fit_svm": N_DATASETS,
        "embed_umap": 1, "explain_rise": 1,
    }  # fmt: skip


def test_a_new_dataset_runs_only_its_own_jobs(project):
    project.edit("config/ci.yaml", datasets=[*project.read("config/ci.yaml")["datasets"], "overlay_words"])
    run = project.plan()
    assert only(run, "dataset=overlay_words")
    assert run.rules == PAGES | {
        "match_features": 1, "find_neighbours": 1,
        "fetch_dataset": 1, "prepare_dataset": 1, "split_dataset": 1,
        "extract_features": N_MODELS, "fit_svm": N_MODELS,
    }  # fmt: skip


def test_a_removed_model_rebuilds_only_the_aggregation(project):
    project.edit("config/ci.yaml", models=project.read("config/ci.yaml")["models"][:-1])
    assert project.plan().rules == AGGREGATION


def test_a_changed_resize_re_extracts_one_model(project):
    card = project.read("registry/models/mobilenetv2.yaml")
    card["preprocess"]["size"] += 32
    project.edit("registry/models/mobilenetv2.yaml", preprocess=card["preprocess"])
    run = project.plan()
    assert only(run, "model=mobilenetv2")
    assert run.rules["extract_features"] == N_DATASETS
    assert "fetch_weights" not in run.rules


def test_a_batch_size_reruns_nothing_but_pages(project):
    project.edit("registry/models/mobilenetv2.yaml", batch_size=7)
    assert set(project.plan().rules) <= {"build_tables", "render_report"}


def test_a_new_t_refits_and_extracts_nothing(project):
    project.edit("config/ci.yaml", svm={"t": [1, 10]})
    run = project.plan()
    assert run.rules["fit_svm"] == N_MODELS * N_DATASETS
    assert not {"extract_features", "embed_umap", "split_dataset"} & set(run.rules)


def test_changed_pins_rerun_the_models_of_that_environment(project):
    file = project.path / "envs/timm06.yaml"
    file.write_text(file.read_text().replace("tqdm==4.70.1", "tqdm==4.70.0"))
    (project.path / "envs/locks/timm06.yaml").unlink()  # of the former pins, and therefore refused
    run = project.plan()
    assert run.rules["build_environment"] == 1
    assert run.rules["extract_features"] == N_DATASETS
    assert all("efficientnet_lite0" in w for r, w in run.jobs if r in {"extract_features", "fit_svm"})


@pytest.mark.parametrize("study", ["config.yaml"])
def test_the_full_study_plans_every_cell_and_says_what_is_missing(project, study):
    run = project.plan(study=study)
    config = project.read(study)
    cells = len(config["models"]) * len(config["datasets"])
    assert cells == 21 * 8
    for rule in ("extract_features", "fit_svm", "embed_umap", "explain_rise"):
        assert run.rules[rule] == cells
    for name in ("breastus", "hicervix", "uni"):
        assert name in run.text.split("Building DAG")[0]
