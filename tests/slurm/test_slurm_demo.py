"""The whole demonstration on two nodes of a Slurm: the same results as on one machine. Half an hour."""

import shutil

import pytest

from tests.slurm import study
from tests.slurm.comparing import differences
from tests.survived import survived
from tests.workflow.harness import Project

pytestmark = [pytest.mark.slurm, pytest.mark.full]

DEMO = "config/demo.yaml"


def test_the_demonstration_gives_the_same(cluster, tmp_path):
    project = Project.copy_to(tmp_path / "project")
    run = study.locally(project, file=DEMO)
    assert run.status == 0, run.text[-20000:]
    (project.path / "results").rename(tmp_path / "local")
    shutil.rmtree(project.path / ".snakemake")
    run = study.run(project, file=DEMO)
    assert run.status == 0, run.text[-20000:]
    different = differences(tmp_path / "local", project.path / "results", {"shared", "demo"})
    assert different == []
    survived("the demonstration on two Slurm nodes beside a local run", losses=len(different))
