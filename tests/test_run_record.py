"""A run's record from the workflow's own events: counts, reasons, time left, a file at any moment."""

import json
import logging
import subprocess
import time
from collections import Counter

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from discern.cli import main
from discern.run_record import RunRecord
from discern.run_words import duration


@pytest.fixture
def run(tmp_path):
    """A record attached to a logger, and the function that sends it an event."""
    record = RunRecord("planted", tmp_path / "results/planted/run.json", [("merlin on ham", "a volume")])
    logger = logging.Logger("workflow", logging.INFO)
    logger.addHandler(record)
    return record, lambda event, **more: logger.info(None, extra={"event": event, **more})


def begin(send, jobid, rule, tmp_path, **wildcards):
    log = tmp_path / f"{jobid}.log"
    send(LogEvent.JOB_INFO, jobid=jobid, rule_name=rule, wildcards=wildcards, log=[str(log)], benchmark=None)
    return log


def test_what_was_done_failed_skipped_and_never_begun(run, tmp_path, capsys):
    record, send = run
    send(LogEvent.RUN_INFO, stats=Counter(fit_svm=3, build_tables=1, total=4))
    for jobid, model in enumerate(("a", "b")):
        log = begin(send, jobid, "fit_svm", tmp_path, model=model)
    log.write_text("bar 50 %\rerror: b: no features; repair: make them\n")
    send(LogEvent.JOB_FINISHED, job_id=0)
    send(LogEvent.JOB_ERROR, jobid=1, rule_name="fit_svm", rule_msg="TIMEOUT", log=[str(log)])
    record.close_run(finished=False)
    facts = json.loads(record.file.read_text())
    assert facts["status"] == "failed"
    assert facts["jobs"] == {"total": 4, "done": 1, "failed": 1, "running": 0, "retried": 0}
    assert facts["failed"][0]["wildcards"] == {"model": "b"}
    assert facts["failed"][0]["reason"] == "TIMEOUT; b: no features; repair: make them"
    assert facts["not_started"] == {"fit_svm": 1, "build_tables": 1}
    assert facts["skipped"] == [{"what": "merlin on ham", "reason": "a volume"}]
    printed = capsys.readouterr().err
    for part in (
        "1 of 4 jobs done",
        "fit_svm b: TIMEOUT",
        "1 build_tables, 1 fit_svm",
        "1 x a volume",
        str(log),
    ):
        assert part in printed
    assert len(printed.splitlines()) < 24


def test_a_job_that_succeeds_at_the_second_try_is_done(run, tmp_path):
    record, send = run
    send(LogEvent.RUN_INFO, stats={"fit_svm": 1, "total": 1})
    begin(send, 0, "fit_svm", tmp_path)
    send(LogEvent.JOB_ERROR, jobid=0, rule_name="fit_svm", rule_msg=None, log=[])
    begin(send, 0, "fit_svm", tmp_path)
    send(LogEvent.JOB_FINISHED, job_id=0)
    facts = record.facts("finished")
    assert facts["jobs"] == {"total": 1, "done": 1, "failed": 0, "running": 0, "retried": 1}
    assert facts["slowest"][0]["attempts"] == 2
    assert not facts["failed"]


def test_time_left_is_what_every_rule_took_divided_by_what_ran_side_by_side(run, tmp_path, monkeypatch):
    record, send = run
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    record._began = now
    send(LogEvent.RUN_INFO, stats={"fit_svm": 6, "embed_umap": 5, "total": 11})
    for jobid, (rule, seconds) in enumerate([("fit_svm", 10), ("fit_svm", 10), ("embed_umap", 40)]):
        begin(send, jobid, rule, tmp_path)
        now += seconds
        send(LogEvent.JOB_FINISHED, job_id=jobid)
    # one after the other: four fits of 10 s and four maps of 40 s
    assert record.facts("running")["seconds_left"] == pytest.approx(200)
    begin(send, 3, "embed_umap", tmp_path)
    now += 30  # of 40: work of 170 s is left, still one at a time
    assert record.facts("running")["seconds_left"] == pytest.approx(170)


def test_progress_is_said_and_written_now_and_then(run, tmp_path, capsys):
    record, send = run
    send(LogEvent.RUN_INFO, stats={"fit_svm": 2, "total": 2})
    begin(send, 0, "fit_svm", tmp_path)
    send(LogEvent.JOB_FINISHED, job_id=0)
    send(LogEvent.PROGRESS, done=1, total=2)
    assert not capsys.readouterr().err
    assert not record.file.exists()
    record._spoken = record._written = -1e9
    send(LogEvent.PROGRESS, done=1, total=2)
    send(LogEvent.PROGRESS, done=1, total=2)
    assert capsys.readouterr().err.count("1 of 2 jobs done, 0 failed, about") == 1
    assert json.loads(record.file.read_text())["status"] == "running"


def test_a_disk_that_is_full_does_not_end_the_run(run, tmp_path, capsys):
    record, send = run
    (tmp_path / "results").write_text("in the way of the folder")
    send(LogEvent.RUN_INFO, stats={"fit_svm": 1, "total": 1})
    begin(send, 0, "fit_svm", tmp_path)
    send(LogEvent.JOB_FINISHED, job_id=0)
    record.close_run(finished=True)
    assert "1 of 1 jobs done" in capsys.readouterr().err


def test_nothing_to_do_leaves_the_last_record(run):
    record, _ = run
    record.close_run(finished=True)
    assert not record.file.exists()


def test_the_command_shows_the_record(run, tmp_path, capsys, monkeypatch):
    record, send = run
    monkeypatch.chdir(tmp_path)
    assert main(["status", "planted"]) == 2
    assert "was not run here yet" in capsys.readouterr().err
    send(LogEvent.RUN_INFO, stats={"fit_svm": 1, "total": 1})
    begin(send, 0, "fit_svm", tmp_path)
    record._written = -1e9
    send(LogEvent.PROGRESS, done=0, total=1)
    assert main(["status", "planted"]) == 0
    printed = capsys.readouterr().out
    assert "study planted: running after" in printed
    assert "0 of 1 jobs done, 1 running" in printed
    ended = subprocess.Popen(["true"])
    ended.wait()
    record.file.write_text(json.dumps(json.loads(record.file.read_text()) | {"pid": ended.pid}))
    assert main(["status", "planted"]) == 0
    assert "study planted: killed after" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.4, "4 s"), (90, "2 min"), (12000, "3 h 20 min"), (187_000, "2 d 3 h"), (3599, "1 h 0 min")],
)
def test_durations_have_two_units(seconds, words):
    assert duration(seconds) == words
