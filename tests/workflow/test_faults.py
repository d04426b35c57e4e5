"""Failures cost only themselves, explain themselves, and the next run repairs only them."""

import csv
import os
import signal
import subprocess
import time

import pytest
import yaml

from discern import contracts, paths

SMALL = {"datasets": ["mr_organs"], "umap": {"datasets": []}, "rise": {"datasets": []}}


def small_study(project, name, models, **more):
    """A study beside the shared features: one data set, no maps."""
    content = {"study": name, "models": models, **SMALL, **more}
    (project.path / f"config/{name}.yaml").write_text(yaml.safe_dump(content))
    return f"config/{name}.yaml"


def tidy(project, study):
    with open(project.path / paths.TIDY.format(study=study), newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_broken_environment_fails_only_its_own_models(project):
    pins = (project.path / "envs/data.yaml").read_text()
    (project.path / "envs/broken.yaml").write_text(pins + "      - tqdm-that-does-not-exist==1.0\n")
    card = project.read("registry/models/pixels32.yaml") | {"name": "broken", "environment": "broken"}
    (project.path / "registry/models/broken.yaml").write_text(yaml.safe_dump(card))
    study = small_study(project, "faulty", ["pixels32", "broken"])

    run = project.snakemake(study=study)
    assert run.status != 0
    rows = {row["model"]: row for row in tidy(project, "faulty")}
    assert rows["pixels32"]["status"] == "made"
    assert rows["broken"]["status"] == "failed"
    assert "tqdm-that-does-not-exist" in rows["broken"]["reason"]
    assert "build_environment" in rows["broken"]["log"]
    assert (project.path / rows["broken"]["log"]).is_file()
    page = (project.path / paths.REPORT.format(study="faulty")).read_text()
    assert rows["broken"]["log"] in page

    (project.path / "envs/broken.yaml").write_text(pins)  # the repair: the pins of an existing environment
    run = project.snakemake(study=study)
    assert run.status == 0, run.text
    every_model = {"build_environment", "match_features", "find_neighbours"}  # whose wildcards name none
    assert all("broken" in w for r, w in run.jobs if w and r not in every_model), run.jobs
    assert {row["status"] for row in tidy(project, "faulty")} == {"made"}
    assert not project.plan(study=study).rules


def test_a_feature_file_cut_in_half_names_itself_and_its_repair(project):
    study = small_study(project, "cut", ["pixels32"])
    features = project.path / paths.FEATURES.format(dataset="mr_organs", model="pixels32")
    whole = features.read_bytes()
    times = features.stat()
    features.write_bytes(whole[: len(whole) // 2])
    os.utime(features, ns=(times.st_atime_ns, times.st_mtime_ns))
    run = project.snakemake(study=study)
    assert run.status != 0
    assert f"rm {features.relative_to(project.path)}" in run.text
    assert not (project.path / paths.SCORES.format(
        study="cut", dataset="mr_organs", model="pixels32", protocol="image")).exists()  # fmt: skip
    features.unlink()
    assert project.snakemake(study=study).status == 0
    made, _ = contracts.read_table(contracts.FEATURES, features)
    assert made.num_rows == 235


def test_killed_in_mid_run_then_finished_gives_the_same_tables(project):
    """SIGKILL of Snakemake and its jobs while models are being fitted; the rerun loses nothing."""
    study = small_study(project, "killed", ["pixels32", "mobilenetv2", "opennsfw_resnet50"])
    process = subprocess.Popen(
        project.command(study=study), cwd=project.path, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = project.path / "results/killed/svm"
    deadline = time.monotonic() + 300
    while not list(folder.glob("**/*.scores.parquet")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.poll() is None, "finished before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (project.path / paths.TIDY.format(study="killed")).exists()

    assert project.snakemake(study=study).status == 0
    undisturbed = {
        r["model"]: r["mean"]
        for r in tidy(project, "ci")
        if r["dataset"] == "mr_organs" and r["metric"] == "accuracy"
    }
    again = {r["model"]: r["mean"] for r in tidy(project, "killed") if r["metric"] == "accuracy"}
    assert again == {model: undisturbed[model] for model in again}
    assert not list(project.path.glob("results/**/*.tmp*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ["mobilenet_v2"]}, "did you mean 'mobilenetv2'"),
        ({"svm": {"tt": [1]}}, "unknown field 'svm.tt'"),
        ({"split": {"folds": "five"}}, "split.folds"),
        ({"datasets": ["mr_organs", "mr_organs"]}, "named twice"),
    ],
)
def test_bad_input_stops_before_any_job(finished, tmp_path, change, message):
    content = {"study": "bad", "models": ["pixels32"], **SMALL} | change
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(content))
    run = finished.snakemake("--dry-run", study=str(file))
    assert run.status != 0
    assert message in run.text
    assert str(file) in run.text
    assert "Traceback" not in run.text
    assert not run.jobs


def test_an_absent_dataset_says_what_to_place_where(project):
    study = small_study(project, "absent", ["pixels32"], datasets=["hicervix"])
    run = project.snakemake(study=study)
    assert run.status != 0
    assert "resources/datasets/hicervix" in run.text
    row = tidy(project, "absent")[0]
    assert row["status"] == "failed"
    assert "hicervix" in row["reason"]
