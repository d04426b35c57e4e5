"""The reason of a missing file is that of the earliest stage that was tried and did not deliver."""

from discern import paths
from discern.config import Study
from discern.environments import environment_digest
from discern.matrix import Cell
from discern.report.failures import Failure, explain, reason_in

CELL = Cell("net", "ct")
WHERE = {"study": "s", "dataset": "ct", "model": "net", "protocol": "image"}


def prepare(project):
    project.model("net")
    project.dataset("ct")
    return Study(study="s", models=["net"], datasets=["ct"])


def why(project, study, stage="fit_svm"):
    return explain(study, project.registry, CELL, "image", stage, root=project.root)


def test_nothing_made_names_the_first_stage(project):
    failure = why(project, prepare(project))
    assert failure == Failure("fetch_dataset", "not made yet", "")


def test_walks_up_to_the_stage_that_failed(project):
    study = prepare(project)
    project.manifest("ct", [0, 1])
    log = paths.MODEL_LOG.format(rule="fetch_weights", model="net")
    project.write(log, "connecting\nerror: acme/net: access is not granted\n  repair: ask on the page\n")
    assert why(project, study) == Failure("fetch_weights", "acme/net: access is not granted", log)
    assert why(project, study, "explain_rise").stage == "fetch_weights"


def test_the_upstream_log_wins_over_an_old_one_downstream(project):
    study = prepare(project)
    project.write(paths.PROTOCOL_LOG.format(rule="fit_svm", **WHERE), "error: of last week\n")
    project.write(paths.DATASET_LOG.format(rule="prepare_dataset", **WHERE), "error: 3 images missing\n")
    assert why(project, study).reason == "3 images missing"


def test_missing_inputs_of_a_present_file_do_not_matter(project):
    study = prepare(project)
    project.features("ct", "net")
    project.manifest("ct", [0, 1])
    project.write(paths.SPLITS.format(**WHERE), "")
    log = paths.PROTOCOL_LOG.format(rule="fit_svm", **WHERE)
    project.write(log, "Traceback\nMemoryError: 3 GiB\n\n")
    assert why(project, study) == Failure("fit_svm", "MemoryError: 3 GiB", log)


def test_a_broken_environment_is_named_unless_it_was_built_or_never_tried(project):
    study = prepare(project)
    project.manifest("ct", [0, 1])
    project.write(paths.WEIGHTS_FETCHED.format(**WHERE), "{}")
    assert why(project, study).stage == "split_dataset"
    digest = environment_digest(project.root / "envs/torch.yaml")
    log = paths.ENVIRONMENT_LOG.format(rule="build_environment", env="torch", digest=digest)
    project.write(log, "error: no wheel of a==1\n")
    assert why(project, study) == Failure("build_environment", "no wheel of a==1", log)
    project.write(paths.ENVIRONMENT.format(env="torch", digest=digest), "a==1\n")
    assert why(project, study).stage == "split_dataset"


def test_reasons_from_logs(tmp_path):
    log = tmp_path / "x.log"
    for text, reason in {
        "error: first\nmore\nerror: second\n  allowed: a, b\n": "second",
        " 30%|### | 3/10\r 40%|#### | 4/10error: image i7 is not finite\n": "image i7 is not finite",
        "error: png decoder error: bad chunk\n": "png decoder error: bad chunk",
        "RuntimeError: out of memory\n\n": "RuntimeError: out of memory",
        "": "not made yet",
        "error: " + "x" * 999: "x" * 299 + "…",
    }.items():
        log.write_text(text)
        assert reason_in(log) == reason
    assert reason_in(tmp_path / "none.log") == "not made yet"


def test_the_shard_that_failed_is_named_not_those_that_are_there(project):
    study = prepare(project)
    project.manifest("ct", [0, 1])
    project.write(paths.WEIGHTS_FETCHED.format(**WHERE), "{}")
    logs = [paths.SHARD_LOG.format(rule="extract_shard", rows=r, **WHERE) for r in ("0-8", "8-16", "16-end")]
    for log, text in zip(logs, ("done", "error: image 'x' has changed", "done"), strict=True):
        project.write(log, f"{text}\n")
    for rows in ("0-8", "16-end"):
        project.write(paths.SHARD.format(rows=rows, **WHERE), "")
    assert why(project, study) == Failure("extract_features", "image 'x' has changed", logs[1])
    project.write(paths.SHARD.format(rows="8-16", **WHERE), "")
    merge = paths.FEATURES_LOG.format(rule="merge_features", **WHERE)
    project.write(merge, "error: shard 8-16 has 7 rows\n")
    assert why(project, study) == Failure("extract_features", "shard 8-16 has 7 rows", merge)
