"""A study whose state lives in an S3 bucket outlives its machine: rclone and a local S3 server."""

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.faults.study import MADE, SMALL, contents, kill_group, leftovers, made, new_project, settle
from tests.survived import survived
from tests.workflow.harness import ROOT, Project, Run

pytestmark = pytest.mark.faults

SERVER = "moto[s3,server]==5.2.5"
SCRIPT = "profiles/kubernetes/store.sh"
STATE = (*MADE, ".snakemake/metadata", ".snakemake/incomplete")
SECOND_STUDY = "config/second.yaml"
SECOND_MODEL = {"name": "pixels16", "title": "16 x 16 pixels"}
MANIFEST = "results/shared/manifests/mr_organs.parquet"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """Environment in which rclone reaches a bucket `studies` of a local S3 server as `s3:`."""
    if not shutil.which("rclone"):
        pytest.skip("rclone is not installed (apt-get install rclone)")
    folder = tmp_path_factory.mktemp("s3")
    python, uv = folder / "venv/bin/python", [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    got = subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", python, SERVER], capture_output=True, text=True
    )
    if got.returncode:
        pytest.skip(f"{SERVER} cannot be installed: {got.stderr[-500:]}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "RCLONE_CONFIG": str(folder / "rclone.conf"),
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "Other",
        "RCLONE_CONFIG_S3_ENDPOINT": f"http://127.0.0.1:{port}",
        "RCLONE_CONFIG_S3_REGION": "us-east-1",
        "RCLONE_CONFIG_S3_ENV_AUTH": "true",
        "AWS_ACCESS_KEY_ID": "planted-key",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
    }
    environment.pop("AWS_CA_BUNDLE", None)  # this rclone knows it not
    (folder / "rclone.conf").touch()
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(["rclone", "--low-level-retries", "1", "mkdir", "s3:studies"], env=environment,
                             capture_output=True).returncode:  # fmt: skip
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail((folder / "server.log").read_text())
            time.sleep(0.5)
        yield environment
    finally:
        server.kill()
        server.wait()


def new_machine(path: Path) -> Project:
    """The checkout alone, all of its files younger than any result."""
    project = new_project(path)
    card = yaml.safe_load((path / "registry/models/pixels32.yaml").read_text()) | SECOND_MODEL
    card["preprocess"]["size"], card["features"][0]["d"] = 16, 256
    (path / "registry/models/pixels16.yaml").write_text(yaml.safe_dump(card))
    second = project.read(SMALL) | {"study": "second", "models": ["pixels32", "pixels16"]}
    (path / SECOND_STUDY).write_text(yaml.safe_dump(second))
    for file in path.rglob("*"):
        if not file.is_symlink() and file.is_file():
            file.touch()
    return project


def store(project: Project, s3, place: str, *arguments: str, every: int = 2) -> subprocess.Popen:
    """Start store.sh in a session of its own; its output goes to store.log."""
    with (project.path / "store.log").open("w") as log:
        return subprocess.Popen(
            [project.path / SCRIPT, *arguments], cwd=project.path, start_new_session=True, stdout=log,
            stderr=subprocess.STDOUT, env=s3 | {"STORE": f"s3:studies/{place}", "EVERY": str(every)},
        )  # fmt: skip


def stored(project: Project, s3, place: str, *arguments: str) -> Run:
    """The same to its end."""
    status = store(project, s3, place, *arguments).wait()
    return Run(status, (project.path / "store.log").read_text())


def listing(s3, place: str) -> set[str]:
    """Every object below a place."""
    done = subprocess.run(
        ["rclone", "lsf", "-R", "--files-only", f"s3:studies/{place}"], env=s3, capture_output=True, text=True
    )
    return set(done.stdout.splitlines())


def keys(s3, place: str, folder: str) -> set[str]:
    """Files that Snakemake's stored records (folder metadata) or marks (incomplete) are about."""
    inside = f".snakemake/{folder}/"
    names = [name.removeprefix(inside) for name in listing(s3, place) if name.startswith(inside)]
    return {base64.urlsafe_b64decode(name.replace("/", "").replace("@", "")).decode() for name in names}


def state(project: Project) -> dict[str, tuple[bytes, int]]:
    """Content and time of each file of a study's state."""
    files = [f for folder in STATE for f in (project.path / folder).rglob("*") if f.is_file()]
    return {str(f.relative_to(project.path)): (f.read_bytes(), f.stat().st_mtime_ns) for f in files}


@pytest.fixture(scope="module")
def first(s3, tmp_path_factory):
    """The machine that ran the study with its state in s3:studies/whole."""
    project = new_machine(tmp_path_factory.mktemp("first") / "project")
    run = stored(project, s3, "whole", "run", *project.command(study=SMALL))
    assert run.status == 0, run.text[-20000:]
    assert "planted-" not in run.text
    return project


def test_another_machine_goes_on(s3, first, tmp_path):
    """Nothing is planned but what is new; environments are built again before anything else."""
    second = new_machine(tmp_path / "second")
    assert stored(second, s3, "whole", "pull").status == 0
    before, after = state(first), state(second)
    losses = sum(after.get(name) != before[name] for name in before)
    assert losses == 0, sorted(n for n in before if after.get(n) != before[n])
    environments = second.path / "resources/envs"
    shared = environments.readlink()
    environments.unlink()  # they do not travel
    assert not second.plan(SMALL).rules
    run = second.snakemake("--dry-run", "--until", "build_environment", study=SECOND_STUDY)
    assert set(run.rules) == {"build_environment"}, run.text
    environments.symlink_to(shared)
    planned = second.plan(SECOND_STUDY).jobs
    for rule, new in (("fetch_dataset", 0), ("prepare_dataset", 0), ("extract_features", 1)):
        assert sum(n for (name, _), n in planned.items() if name == rule) == new, planned
    run = stored(second, s3, "whole", "run", *second.command(study=SECOND_STUDY))
    assert run.status == 0, run.text[-20000:]
    assert run.jobs == planned
    assert "results/second/report/index.html" in listing(s3, "whole")
    assert not leftovers(second)
    survived("study in an S3 bucket: an empty machine goes on", f"{len(before)} files", 1, losses=losses)


def until(condition, process: subprocess.Popen, project: Project) -> None:
    """Wait for a condition while a process works in a project."""
    deadline = time.monotonic() + 300
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail((project.path / "store.log").read_text())
        time.sleep(0.1)


def check_heir(s3, first: Project, place: str, path: Path) -> int:
    """A new machine ends the study with the same results; how many recorded files it made again."""
    heir = new_machine(path)
    assert stored(heir, s3, place, "pull").status == 0
    kept = keys(s3, place, "metadata") - keys(s3, place, "incomplete")
    planned = re.findall(r"^    output: (.*)$", heir.plan(SMALL).text, re.MULTILINE)
    again = {name for names in planned for name in names.split(", ")}
    assert "results/small/report/index.html" in again
    assert not again & kept, again & kept
    run = stored(heir, s3, place, "run", *heir.command(study=SMALL))
    assert run.status == 0, run.text[-20000:]
    expected, found = contents(first), contents(heir)
    assert not sorted(f for f in expected.keys() | found.keys() if expected.get(f) != found.get(f))
    return len(again & kept)


def test_what_was_made_before_a_sigterm_is_stored(s3, first, tmp_path):
    """No push was due before it. What a stopped run marks as incomplete is so for the next machine, too."""
    lost = new_machine(tmp_path / "lost")
    process = store(lost, s3, "term", "run", *lost.command(study=SMALL), every=3600)
    until((lost.path / MANIFEST).exists, process, lost)
    process.terminate()
    assert process.wait(300) != 0
    files = {str(f) for f in made(lost) if f.suffix != ".lock"}
    losses = len(files - listing(s3, "term"))
    assert losses == 0, files - listing(s3, "term")
    losses += check_heir(s3, first, "term", tmp_path / "heir")
    survived("study in an S3 bucket: SIGTERM at work", "a running study", 1, losses=losses)


def test_a_sigkill_costs_what_was_not_pushed_yet(s3, first, tmp_path):
    """And leaves no record without its file, nothing half."""
    lost = new_machine(tmp_path / "lost")
    process = store(lost, s3, "kill", "run", *lost.command(study=SMALL), every=1)
    until(lambda: (lost.path / MANIFEST).exists() and keys(s3, "kill", "metadata"), process, lost)
    kill_group(process)
    settle(lost)
    there = listing(s3, "kill")
    assert keys(s3, "kill", "metadata") <= there
    assert not [name for name in there if ".tmp" in name or "lock" in name]
    losses = check_heir(s3, first, "kill", tmp_path / "heir")
    survived("study in an S3 bucket: SIGKILL at work", "a running study", 1, losses=losses)


@pytest.mark.parametrize(
    "wrong",
    [
        {"RCLONE_S3_NO_CHECK_BUCKET": "true", "STORE": "s3:no-such-bucket/x"},
        {"RCLONE_CONFIG_S3_ENDPOINT": "http://127.0.0.1:1", "STORE": "s3:studies/x"},
        {"RCLONE_CONFIG_S3_TYPE": "", "STORE": "s3:studies/x"},
        {"STORE": ""},
    ],
)
def test_nothing_is_run_that_could_not_be_stored(wrong, s3, tmp_path):
    done = subprocess.run(
        [ROOT / SCRIPT, "run", "touch", "ran"], cwd=tmp_path, text=True, capture_output=True,
        env=s3 | {"RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1"} | wrong,
    )  # fmt: skip
    assert done.returncode != 0
    assert not (tmp_path / "ran").exists()
    assert "nothing was run" in done.stderr or "STORE" in done.stderr
    assert "planted-" not in done.stdout + done.stderr
