"""One undisturbed run, with which every disturbed one is compared."""

import pytest

from tests.faults.study import SMALL, STUDY, new_project


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The project after a run that nothing disturbed: not to be changed."""
    project = new_project(tmp_path_factory.mktemp("undisturbed") / "project")
    run = project.snakemake(study=STUDY)
    assert run.status == 0, run.text[-20000:]
    return project


@pytest.fixture
def project(undisturbed, tmp_path):
    """A copy of the finished project, free to change."""
    return undisturbed.clone(tmp_path / "project")


@pytest.fixture(scope="session")
def finished_small(tmp_path_factory):
    """The small study after a run that nothing disturbed: not to be changed."""
    project = new_project(tmp_path_factory.mktemp("small") / "project")
    run = project.snakemake(study=SMALL)
    assert run.status == 0, run.text[-20000:]
    return project


@pytest.fixture
def small(finished_small, tmp_path):
    """A copy of it, free to change."""
    return finished_small.clone(tmp_path / "project")
