"""A running study is killed at random moments, and ends as if nothing had happened."""

import random
import re
import subprocess

import pytest

from tests.faults.study import (
    contents,
    finished_files,
    forget,
    kill_alone,
    kill_group,
    leftovers,
    settle,
    start,
)
from tests.survived import survived

pytestmark = pytest.mark.faults

KILLS = 30
#: Seconds from start to kill: from before Snakemake has read the study to after most jobs. Where nothing
#: was finished before a kill, the next may come later: the slowest job must be able to end.
SOONEST, LATEST, LATER = 0.5, 10.0, 1.2


def check_end(project, expected, moment):
    """After a run that ended by itself: all that an undisturbed one makes, the same, and no more."""
    settle(project)
    found = contents(project)
    differing = sorted(f for f in expected.keys() | found.keys() if expected.get(f) != found.get(f))
    assert not differing, f"{moment}\n{differing}\n{(project.path / 'run.log').read_text()[-5000:]}"
    assert not leftovers(project), moment
    assert not list((project.path / ".snakemake/incomplete").glob("*")), moment
    assert not list((project.path / ".snakemake/locks").glob("*")), moment
    return sum(expected[f] != found.get(f) for f in expected)


def test_killed_at_30_moments_and_the_same_results(undisturbed):
    """Whole group and Snakemake alone by turns; what then goes on meets the next run at its work."""
    project, expected = undisturbed, contents(undisturbed)  # in place: compiled code is kept by path
    forget(project)
    moments, latest = random.Random(6), LATEST
    kills = losses = files = 0
    reached, finished = set(), False
    while kills < KILLS or not finished:
        if finished:
            forget(project)
            files, finished = 0, False
        process = start(project)
        try:
            process.wait(moments.uniform(SOONEST, latest) if kills < KILLS else 600)
        except subprocess.TimeoutExpired:
            (kill_group if kills % 2 else kill_alone)(process)
            kills += 1
            reached |= set(re.findall(r"rule (\w+):", (project.path / "run.log").read_text()))
            before, files = files, finished_files(project)
            latest *= 1 if files > before else LATER
            continue
        finished = True
        assert process.returncode == 0, f"after {kills} kills\n{(project.path / 'run.log').read_text()}"
        losses += check_end(project, expected, f"after {kills} kills")
    stages = {"prepare_dataset", "extract_features", "fit_svm", "embed_umap", "explain_rise"}
    assert stages <= reached, f"only these were under way when something was killed: {reached}"
    survived("SIGKILL of a running study at random moments", "24 jobs of 14 rules", kills, losses=losses)
