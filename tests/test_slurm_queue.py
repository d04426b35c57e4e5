"""Jobs of a killed run, as `squeue` lists them: waiting ones are cancelled, running ones awaited."""

import os

import pytest

from discern.slurm_queue import earlier_jobs, settle


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A folder that has submitted jobs, and a list that a stand-in for Slurm's two commands reads."""
    commands, folder = tmp_path / "bin", tmp_path / "study"
    (folder / ".snakemake" / "slurm_logs").mkdir(parents=True)
    commands.mkdir()
    listed = tmp_path / "queue.txt"
    # As seen three times the running jobs are gone.
    (commands / "squeue").write_text(
        f'#!/bin/sh\necho x >> {tmp_path}/asked\n[ "$(wc -l < {tmp_path}/asked)" -gt 2 ] || cat {listed}\n'
    )
    (commands / "scancel").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/cancelled\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return folder, listed, tmp_path


def lines(folder):
    return "\n".join(
        [
            f"11|RUNNING|rule_fit_svm_wildcards_a_b|{folder}",
            f"12|PENDING|rule_extract_features_wildcards_a|b|{folder}",
            f"13|RUNNING|somebody's own|{folder}",
            f"14|RUNNING|rule_fit_svm|{folder}/elsewhere",
            f"15|COMPLETING|rule_embed_umap|{folder}",
        ]
    )


def test_only_jobs_that_this_folder_submitted_count(queue):
    folder, listed, _ = queue
    listed.write_text(lines(folder) + "\n")
    assert earlier_jobs(folder).keys() >= {"11", "15"}
    assert not earlier_jobs(folder).keys() & {"13", "14"}


def test_waiting_jobs_are_cancelled_and_running_ones_awaited(queue):
    folder, listed, top = queue
    listed.write_text(f"11|RUNNING|rule_a|{folder}\n12|PENDING|rule_b|{folder}\n")
    said = []
    assert settle(folder, said.append, pause=0) == 1
    assert (top / "cancelled").read_text().split() == ["12"]
    assert len((top / "asked").read_text().split()) == 3
    assert "11" in said[-1]


def test_a_folder_that_never_submitted_asks_nobody(queue):
    folder, listed, top = queue
    listed.write_text(lines(folder))
    assert settle(folder.parent, pause=0) == 0
    assert not (top / "asked").exists()


def test_jobs_of_a_run_that_lives_are_left_alone(queue):
    folder, listed, top = queue
    listed.write_text(lines(folder))
    (folder / ".snakemake" / "locks").mkdir()
    (folder / ".snakemake" / "locks" / "0.output.lock").touch()
    assert settle(folder, pause=0) == 0
    assert not (top / "cancelled").exists()
