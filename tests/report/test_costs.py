"""The cost card: sums of benchmark files by rule, model and data set; nothing of other studies."""

import csv
import os

import pytest

from discern import paths
from discern.environments import environment_digest
from discern.report.costs import cost_card, measured_jobs, write_costs

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


@pytest.fixture
def timed(small):
    """Two fits and an extraction that ended, a fit that was killed, one that failed at its second try."""
    project, study = small
    project.features("ct", "best", n=40)

    def job(path, seconds, cpu, peak="100", age=0):
        file = project.write(f"results/{path}.tsv", f"{HEAD}{seconds}\t-\t{peak}\t1\t1\t1\t2\t3\t50\t{cpu}\n")
        log(path, 1000 - age)
        os.utime(file, (1000, 1000))

    def log(path, at=1000):
        file = project.write(f"results/{path.replace('/benchmarks/', '/logs/')}.log", "done\n")
        os.utime(file, (at, at))

    job("shared/benchmarks/extract_features/ct/best", 20, 10, peak="800")
    job("s/benchmarks/fit_svm/ct/best/image", 5, 4)
    job("s/benchmarks/fit_svm/mr/best/image", 1, "NA", peak="NA")
    job("s/benchmarks/fit_svm/ct/worst/image", 14, 14, age=-60)
    log("s/logs/fit_svm/mr/worst/image")
    log("s/logs/render_report")
    job("shared/benchmarks/extract_features/other/best", 9999, 1)
    job("s/benchmarks/fit_svm/ct/another/image", 9999, 1)
    return project, study


def cards(project, study):
    found = cost_card(measured_jobs(study, project.registry, project.root))
    return {(c.by, c.name): c for c in found}


def test_sums_by_rule_model_and_data_set(timed):
    found = cards(*timed)
    total = found["total", "all jobs"]
    assert (total.jobs, total.shared, total.seconds, total.cpu_seconds) == (4, 1, 40, 28)
    fits = found["rule", "fit_svm"]
    assert (fits.jobs, fits.seconds, fits.share, fits.longest_job) == (3, 20, 0.5, "ct / worst / image")
    assert fits.load == pytest.approx(18 / 19)  # the fit that was too short to sample is left out
    assert found["model", "best"].seconds == 26
    assert found["dataset", "ct"].peak_mb == 800
    assert found["dataset", "mr"].peak_mb is None


def test_rates_count_images_per_second_of_whole_extractions(timed):
    found = cards(*timed)
    assert found["model", "best"].images_per_second == 2
    assert found["model", "worst"].images_per_second is None


def test_a_log_without_a_later_measurement_is_an_unfinished_job(timed):
    found = cards(*timed)
    assert found["rule", "fit_svm"].unfinished == 2
    assert found["rule", "extract_features"].unfinished == 0
    assert found["model", "worst"].seconds == 14  # of the try that ended


def test_environments_count_while_their_pins_are_the_present_ones(timed):
    project, study = timed
    pins = environment_digest(project.root / "envs" / "torch.yaml")
    name = "results/shared/{}/build_environment/torch.{}"
    project.write(name.format("benchmarks", pins) + ".tsv", f"{HEAD}7\t-\t1\t1\t1\t1\t1\t1\t1\t1\n")
    project.write(name.format("benchmarks", "0" * 16) + ".tsv", f"{HEAD}9999\t-\t1\t1\t1\t1\t1\t1\t1\t1\n")
    assert cards(project, study)["rule", "build_environment"].seconds == 7


def test_an_environment_that_is_there_is_not_unfinished(timed):
    project, study = timed
    pins = environment_digest(project.root / "envs" / "torch.yaml")
    project.write(f"results/shared/logs/build_environment/torch.{pins}.log", "")
    assert cards(project, study)["rule", "build_environment"].unfinished == 1
    project.write(paths.ENVIRONMENT.format(env="torch", digest=pins), "")
    assert ("rule", "build_environment") not in cards(project, study)


def test_files_hold_a_row_per_sum_and_per_job(timed):
    project, study = timed
    write_costs(project.root, measured_jobs(study, project.registry, project.root))
    with (project.root / "costs.csv").open() as handle:
        sums = {(r["by"], r["name"]): r for r in csv.DictReader(handle)}
    assert float(sums["rule", "fit_svm"]["share"]) == 0.5
    with (project.root / "cost_jobs.csv").open() as handle:
        jobs = list(csv.DictReader(handle))
    assert [j["finished"] for j in jobs if j["rule"] == "fit_svm"] == ["1", "0", "1", "0"]


def test_nothing_measured_is_an_empty_card(small):
    project, study = small
    assert cost_card(measured_jobs(study, project.registry, project.root)) == []


def test_shards_count_as_their_data_set_and_model(small):
    project, study = small
    project.features("ct", "best", n=40)
    for rows, seconds in (("0-16", 4), ("16-32", 4), ("32-end", 2)):
        file = f"results/shared/benchmarks/extract_shard/ct/best/{rows}.tsv"
        project.write(file, f"{HEAD}{seconds}\t-\t1\t1\t1\t1\t2\t3\t50\t1\n")
    found = cards(project, study)
    assert found["model", "best"].jobs == 3
    assert (found["dataset", "ct"].images, found["dataset", "ct"].images_per_second) == (40, 4)
    assert found["total", "all jobs"].longest_job == "ct / best / 0-16"
