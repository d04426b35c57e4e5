"""The study gives the same on two nodes of a Slurm as on one machine, and asks for what it needs."""

from collections import Counter

import pytest

from tests.slurm import study
from tests.slurm.comparing import differences
from tests.survived import survived

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def finished(checkout, cluster):
    """Project, local results, and the Slurm jobs of the study's only run."""
    project, local = checkout
    before = {job["JobId"] for job in cluster.jobs()}
    run = study.run(project)
    assert run.status == 0, run.text[-20000:]
    return project, local, [job for job in cluster.jobs() if job["JobId"] not in before]


def test_results_are_the_same_to_the_last_bit(finished):
    project, local, jobs = finished
    different = differences(local, project.path / "results", {"shared", "cluster"})
    # Locally the study of the faults was begun in the same folder.
    different = [name for name in different if "/steady." not in name]
    assert different == []
    survived(
        "the study on two Slurm nodes beside a local run", load=f"{len(jobs)} jobs", losses=len(different)
    )


def test_every_job_ran_once_and_short_ones_share_theirs(finished):
    project, _, jobs = finished
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    names = Counter(job["Comment"].removeprefix("rule_").split("_wildcards")[0] for job in jobs)
    alone = ("prepare_dataset", "extract_features", "embed_umap", "explain_rise")
    assert {rule: names[rule] for rule in alone} == dict(zip(alone, (2, 4, 4, 2), strict=True))
    assert len(jobs) - sum(names[rule] for rule in alone) == 2 + 4 + 2 + 1, names
    made = (project.path / "results").rglob("benchmarks/**/*.tsv")
    benchmarks = [f for f in made if not {"fetch_dataset", "fetch_weights", "build_environment"} & {*f.parts}]
    assert len(benchmarks) == 28
    assert all(len(f.read_text().splitlines()) == 2 for f in benchmarks)  # a line for each time it ran


def test_only_jobs_of_networks_take_the_gpu(finished):
    _, _, jobs = finished
    gpus = {job["Comment"]: job for job in jobs if "gpu" in job.get("TresPerJob", "")}
    assert len(gpus) == 3
    assert all("mobilenetv2" in name for name in gpus)
    assert {(job["NodeList"], job["Partition"]) for job in gpus.values()} == {("n2", "gpu")}
    assert {job["Partition"] for job in jobs if job["Comment"] not in gpus} == {"main"}


def test_a_second_run_would_submit_nothing(finished):
    project, _, jobs = finished
    run = study.run(project, "--dry-run")
    assert run.status == 0
    assert not run.rules, run.text[-5000:]
    assert jobs
