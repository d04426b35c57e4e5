"""``--use-conda`` for real, but for conda-forge and conda's command line: see channel.py and front_end.py."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from discern import contracts, paths
from discern.environment_locks import lock
from discern.environments import installed_from, lock_file
from tests.conda.channel import make_channel
from tests.survived import survived
from tests.workflow.harness import ROOT, Project

PIP = re.search(r"- pip=(\S+)", (ROOT / "envs/data.yaml").read_text())[1]
ENVIRONMENT = """
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip={pip}
  - pip:
      - einops=={version}
"""
SNAKEFILE = """
from discern.environments import installed_from

def pins(wildcards):
    return str(installed_from(workflow.basedir + f"/envs/{wildcards.env}.yaml"))

rule all:
    input: "old.txt", "new.txt"

rule versions:
    output: "{env}.txt"
    conda: pins
    shell: "python -c 'import einops, sys; print(einops.__version__, sys.prefix)' > {output}"
"""

pytestmark = pytest.mark.skipif(
    sys.base_prefix == "/usr", reason="Debian's own Python looks for packages elsewhere than conda's"
)


@pytest.fixture(scope="module")
def conda(tmp_path_factory):
    """Variables of a machine on which `conda` is on PATH, with a channel of its own."""
    base = tmp_path_factory.mktemp("conda")
    make_channel(base / "channels", PIP)
    programs = [Path(__file__).parent / "bin", Path(sys.executable).parent]
    return {
        "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
        "CONDA_TEST_CHANNELS": str(base / "channels"),
        "RATTLER_CACHE_DIR": str(base / "cache"),
        "PIP_NO_COMPILE": "1",
    }


def snakemake(folder, conda, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments], cwd=folder, text=True, check=False,
        env=os.environ | conda, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_two_incompatible_environments_in_one_run(conda, tmp_path):
    """One from its lock, one without a lock from its pins; the spelling of the next Snakemake finds both."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "envs").mkdir()
    for name, version in (("old", "0.6.1"), ("new", "0.8.2")):
        (tmp_path / f"envs/{name}.yaml").write_text(ENVIRONMENT.format(pip=PIP, version=version))
    lock(tmp_path / "envs/new.yaml")
    assert installed_from(tmp_path / "envs/new.yaml") == lock_file(tmp_path / "envs/new.yaml")

    text = snakemake(tmp_path, conda, "--use-conda")
    assert text.count("Creating conda environment") == 2
    found = {name: (tmp_path / f"{name}.txt").read_text().split() for name in ("old", "new")}
    assert {name: version for name, (version, _) in found.items()} == {"old": "0.6.1", "new": "0.8.2"}
    prefixes = {Path(prefix) for _, prefix in found.values()}
    assert {prefix.parent for prefix in prefixes} == {tmp_path / ".snakemake/conda"}
    assert len(prefixes) == 2
    listed = {prefix: (prefix / "pip.txt").read_text() for prefix in prefixes}
    assert ["--hash=sha256:" in listed[Path(prefix)] for _, prefix in found.values()] == [False, True]

    text = snakemake(tmp_path, conda, "--sdm", "conda", "--forceall")
    assert "Creating conda environment" not in text
    assert {name: (tmp_path / f"{name}.txt").read_text().split() for name in found} == found
    survived("two incompatible conda environments in one run", load="4 jobs", tried=2)


def test_every_job_of_the_project_asks_conda_for_a_lock(conda, tmp_path):
    project = Project.copy_to(tmp_path / "project")
    text = snakemake(project.path, conda, "--use-conda", "--dry-run", "--configfile", "config/ci.yaml")
    named = set(re.findall(r"Conda environment (\S+) will be created", text))
    assert named == {f"envs/locks/{name}.yaml" for name in ("analysis", "data", "onnx", "timm06", "torch")}
    assert "build_environment" not in text


@pytest.mark.faults  # pip takes a minute for the environment's fifty packages
def test_the_project_s_own_jobs_run_in_its_own_environment(conda, tmp_path):
    """Fetching, preparing and extracting in `data`, as pip installs it from the lock."""
    project = Project.copy_to(tmp_path / "project")
    target = paths.FEATURES.format(dataset="mr_organs", model="pixels32")
    study = ("--configfile", "config/ci.yaml", "--cores", "2")
    text = snakemake(project.path, conda, "--use-conda", *study, "--", target)
    assert text.count("Creating conda environment") == 1
    assert "build_environment" not in text
    table, _ = contracts.read_table(contracts.FEATURES, project.path / target)
    assert len(table) > 0
    assert len(list((project.path / ".snakemake/conda").glob("*/conda-meta"))) == 1
    assert not list((project.path / "results").glob("**/build_environment"))
    survived("the project's own jobs under conda", load=f"{len(table)} images", tried=1)
