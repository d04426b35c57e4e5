"""Disk, files, clock and company: each fault is named with its repair, and after it nothing is missing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from discern import paths
from tests.faults.study import SMALL, STUDY, contents, forget, leftovers, orphans, settle, start
from tests.survived import survived

pytestmark = pytest.mark.faults


def check_same(small, finished_small, what):
    """Nothing differs from the undisturbed run, nothing is missing and nothing is left over."""
    expected, found = contents(finished_small), contents(small)
    differing = sorted(f for f in expected.keys() | found.keys() if expected.get(f) != found.get(f))
    assert not differing
    assert not leftovers(small)
    assert not list((small.path / ".snakemake/locks").glob("*"))
    survived(what, "11 jobs", 1, losses=len(differing))


def mounted(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")


@contextmanager
def mount(folder, *arguments):
    """``mount ARGUMENTS FOLDER`` while inside."""
    mounted(*arguments, folder)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system: root's right"
)
def test_a_full_disk_is_named_and_more_room_is_all_it_takes(small, finished_small):
    forget(small)
    results = small.path / "results"
    results.mkdir()
    with mount(results, "-t", "tmpfs", "-o", "size=700k", "none"):
        run = small.snakemake(study=SMALL)
        assert run.status != 0
        assert "No space left on device" in run.text or "disk is full" in run.text, run.text[-5000:]
        assert not leftovers(small)
        mounted("-o", "remount,size=100m", results)
        run = small.snakemake(study=SMALL)
        assert run.status == 0, run.text[-5000:]
        check_same(small, finished_small, "a disk that is full (tmpfs of 700 kB)")


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts the folder read-only: root's right"
)
def test_a_results_folder_that_is_read_only_is_named(small, finished_small):
    forget(small)
    results = small.path / "results"
    results.mkdir()
    with mount(results, "--bind", results):
        mounted("-o", "remount,ro,bind", results)
        run = small.snakemake(study=SMALL)
        assert run.status != 0
        assert "Read-only file system" in run.text, run.text[-5000:]
        assert "results" in run.text
    assert small.snakemake(study=SMALL).status == 0
    check_same(small, finished_small, "a results folder that is read-only")


def test_a_lost_weights_file_is_named_with_its_repair(project, undisturbed):
    record = project.path / paths.WEIGHTS_FETCHED.format(model="mobilenetv2")
    features = paths.FEATURES.format(dataset="mr_organs", model="mobilenetv2")
    lost = [f for f in record.parent.rglob("*") if f.is_file() and f != record]
    assert lost
    for file in (*lost, project.path / features):
        file.unlink()
    run = project.snakemake("features", study=STUDY)
    assert run.status != 0
    assert lost[0].name in run.text
    assert f"rm {record.relative_to(project.path)}" in run.text
    record.unlink()
    assert project.snakemake("features", study=STUDY).status == 0
    assert contents(project)[features] == contents(undisturbed)[features]
    survived("a lost file of weights", "2 jobs", 1)


HERE = {"study": "small", "dataset": "mr_organs", "model": "pixels32", "protocol": "image"}
#: What is damaged, and the stages that are missing, so that it is read.
DAMAGED = {
    "manifest": (paths.MANIFEST, ("splits", "svm", "tables", "report")),
    "splits": (paths.SPLITS, ("svm", "neighbours", "tables", "report")),
    "features": (paths.FEATURES, ("svm", "neighbours", "tables", "report")),
    "scores": (paths.SCORES, ("tables", "report")),
    "predictions": (paths.PREDICTIONS, ("tables", "report")),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_corrupted_table_is_named_with_its_repair(small, finished_small, kind):
    template, missing = DAMAGED[kind]
    damaged = small.path / template.format(**HERE)
    times, whole = damaged.stat(), bytearray(damaged.read_bytes())
    whole[4:-40] = bytes(len(whole) - 44)  # its length, its ends and its times stay
    damaged.write_bytes(whole)
    os.utime(damaged, ns=(times.st_atime_ns, times.st_mtime_ns))
    for stage in missing:
        shutil.rmtree(small.path / "results/small" / stage, ignore_errors=True)
    run = small.snakemake(study=SMALL)
    assert run.status
    assert f"rm {damaged.relative_to(small.path)}" in run.text, run.text[-5000:]
    damaged.unlink()
    run = small.snakemake(study=SMALL)
    assert run.status == 0, run.text[-5000:]
    check_same(small, finished_small, "a corrupted Parquet")


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_was_set(small, finished_small, days):
    """A manifest of tomorrow, or everything of tomorrow: at most what depends on it is made again."""
    ahead = time.time() + 86400
    moved = small.path / paths.MANIFEST.format(**HERE)
    files = [moved] if days == 1 else [f for f in (small.path / "results").rglob("*") if f.is_file()]
    for file in files:
        os.utime(file, (ahead, ahead))
    run = small.snakemake(study=SMALL)
    assert run.status == 0, run.text[-5000:]
    assert not {"prepare_dataset", "fetch_weights", "fetch_dataset"} & run.rules.keys()
    if days == -1:
        assert not run.rules
    check_same(small, finished_small, "a clock that was set")
    os.utime(moved)
    assert small.snakemake(study=SMALL).status == 0
    assert not small.plan(study=SMALL).rules
    check_same(small, finished_small, "a clock that was set")


@pytest.mark.parametrize("apart", [0.0, 0.3, 1.5])
def test_of_two_that_start_in_one_folder_one_goes_on(small, finished_small, apart):
    forget(small)
    first = start(small, study=SMALL, log="first.log")
    time.sleep(apart)
    second = start(small, study=SMALL, log="second.log")
    statuses = [first.wait(), second.wait()]
    texts = [(small.path / name).read_text() for name in ("first.log", "second.log")]
    assert sorted(map(bool, statuses)) == [False, True], texts
    refused = texts[statuses.index(0) ^ 1]
    assert "another Snakemake" in refused or "Directory cannot be locked" in refused, refused
    assert "localrule" not in refused
    settle(small)
    check_same(small, finished_small, "two Snakemakes started at once in one folder")


def test_two_that_start_on_the_lock_of_a_killed_one(small, finished_small):
    forget(small)
    killed = start(small, study=SMALL)
    while not list((small.path / ".snakemake").glob("locks/*.lock")):
        assert killed.poll() is None
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    both = [start(small, study=SMALL, log=f"{i}.log") for i in range(2)]
    statuses = [process.wait() for process in both]
    assert sorted(map(bool, statuses)) == [False, True]
    check_same(small, finished_small, "two Snakemakes started at once in one folder")


def wait_for_job(small, process, script):
    """The process of a job that runs ``script``."""
    deadline = time.monotonic() + 200
    while True:
        assert time.monotonic() < deadline
        assert process.poll() is None, (small.path / "run.log").read_text()
        for found in orphans(small):
            try:
                words = found.cmdline()
            except psutil.Error:
                continue
            if any(word.endswith(f"scripts/{script}.py") for word in words[:2]):
                return found


def test_a_job_that_is_killed_alone_costs_only_itself(small, finished_small):
    forget(small)
    process = start(small, study=SMALL)
    wait_for_job(small, process, "split_dataset").kill()
    assert process.wait() != 0
    text = (small.path / "run.log").read_text()
    assert "Error in rule split_dataset" in text
    assert (small.path / paths.FEATURES.format(**HERE)).is_file()
    assert not (small.path / paths.SCORES.format(**HERE)).exists()
    assert small.snakemake(study=SMALL).status == 0
    check_same(small, finished_small, "a job killed alone")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_run_that_is_asked_to_end(small, finished_small, sent):
    forget(small)
    process = start(small, study=SMALL)
    wait_for_job(small, process, "extract_features")
    process.send_signal(sent)
    assert process.wait() != 0
    settle(small)
    assert not list((small.path / ".snakemake/locks").glob("*"))
    run = small.snakemake(study=SMALL)
    assert run.status == 0, run.text[-5000:]
    check_same(small, finished_small, f"{sent.name} of a running study")
