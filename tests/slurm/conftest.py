"""A Slurm for all tests of this folder, and what the study gives without it."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.slurm import faulty, study
from tests.slurm.cluster import Cluster, lacking


@pytest.fixture(scope="session")
def cluster():
    """Two nodes, started; skipped with the reason where Slurm cannot be had."""
    if why := lacking():
        pytest.skip(f"no Slurm: {why}")
    # Munge wants a path on which nobody else can write, Slurm one from which scripts can be run.
    root = Path(tempfile.mkdtemp(prefix="discern-slurm-", dir="/var/lib"))
    slurm = Cluster(root)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def checkout(cluster, tmp_path_factory):
    """A copy of the checkout with both studies, nothing made; and the folder of what they give locally.

    Everything runs in one folder, since compiled code is kept by the path of its environment.
    """
    top = tmp_path_factory.mktemp("slurm")
    project = faulty.add(study.written(top / "project"))
    run = study.locally(project)
    assert run.status == 0, run.text[-20000:]
    scores = [f"results/faults/svm/my_table/steady/{p}.scores.parquet" for p in ("image", "group")]
    run = study.locally(project, *scores, file=faulty.FILE)
    assert run.status == 0, run.text[-20000:]
    (project.path / "results").rename(top / "local")
    shutil.rmtree(project.path / ".snakemake")
    return project, top / "local"
