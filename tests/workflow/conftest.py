"""One real run of the reduced study, shared by all workflow tests."""

import pytest

from tests.workflow.harness import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The checkout with `config/ci.yaml` run to the end."""
    project = Project.copy_to(tmp_path_factory.mktemp("workflow") / "project")
    run = project.snakemake()
    assert run.status == 0, run.text[-20000:]
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A private copy of the finished project, free to change."""
    return finished.clone(tmp_path / "project")
