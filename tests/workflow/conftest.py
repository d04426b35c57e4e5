"""One real run of the reduced study, shared by all workflow tests."""

import fcntl
import shutil

import pytest

from tests.workflow.harness import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id):
    """The checkout with `config/ci.yaml` run to the end: once for all processes, each has a copy."""
    own = tmp_path_factory.getbasetemp()
    shared = (own if worker_id == "master" else own.parent) / "shared-workflow"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").is_file():
            shutil.rmtree(shared / "project", ignore_errors=True)  # of a run that failed
            run = Project.copy_to(shared / "project").snakemake()
            assert run.status == 0, run.text[-20000:]
            (shared / "done").touch()
    return Project(shared / "project").clone(tmp_path_factory.mktemp("workflow") / "project")


@pytest.fixture
def project(finished, tmp_path):
    """A private copy of the finished project, free to change."""
    return finished.clone(tmp_path / "project")
