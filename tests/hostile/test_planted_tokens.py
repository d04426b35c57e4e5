"""Secrets of the environment stand in nothing that a command prints or writes, least of all when it fails."""

import json
import os
import re
import subprocess
import sys

import pytest

from discern.dataset_card import DatasetCard
from discern.errors import DiscernError
from discern.model_card import ModelCard
from discern.secrets import redacted
from discern.validation import parse
from tests.survived import survived
from tests.workflow.harness import ROOT, Project

NOWHERE = "127.0.0.1:9"  # the port of discard: nobody listens
SECRETS = {
    "HF_TOKEN": "hf_PLANTEDtoken1",
    "KAGGLE_USERNAME": "somebody",
    "KAGGLE_KEY": "PLANTEDkey2",
    "KAGGLE_API_TOKEN": "PLANTEDapi3",
    "AWS_ACCESS_KEY_ID": "PLANTEDaws4",
    "AWS_SECRET_ACCESS_KEY": "PLANTEDaws5",
    "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "PLANTEDs36",
    "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "PLANTEDs37",
    "PIP_INDEX_URL": f"http://user:PLANTEDpip8@{NOWHERE}/simple",
    "UV_DEFAULT_INDEX": f"http://user:PLANTEDuv9@{NOWHERE}/simple",
}
ELSEWHERE = {
    "HF_ENDPOINT": f"http://{NOWHERE}",
    "PIP_RETRIES": "0",
    "UV_HTTP_RETRIES": "0",
    "PIP_TIMEOUT": "2",
}
DATA = {"name": "x", "adapter": {"kind": "image_folder"}, "classes": [{"name": "a"}, {"name": "b"}]}
PACKAGE = {"kind": "package", "package": "imageio", "version": "2.37", "sha256": "0" * 64, "members": ["x"]}
SOURCES = {
    "recipe": {"kind": "recipe", "recipe": "organs", "packages": [PACKAGE]},
    "hub": {"kind": "hub", "repo": "org/net", "revision": "0" * 40, "files": ["a"], "repo_type": "dataset"},
    "url": {"kind": "url", "url": f"http://{NOWHERE}/x.zip"},
    "git": {"kind": "git", "url": f"http://{NOWHERE}/x.git", "commit": "0" * 40},
}


def leaks(text):
    """Pieces of secrets in a text: every planted value has this word in it."""
    return re.findall(r"\S*PLANTED\S*", text)


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, text=True, capture_output=True, check=False,
        env=os.environ | SECRETS | ELSEWHERE, timeout=120,
    )  # fmt: skip
    written = "".join(f.read_text(errors="replace") for f in folder.rglob("*") if f.is_file())
    assert not leaks(done.stdout + done.stderr + written), done.stderr
    return done


@pytest.mark.parametrize("kind", SOURCES)
def test_data_that_cannot_be_fetched(tmp_path, kind):
    card = DatasetCard.model_validate(DATA | {"source": SOURCES[kind]})
    script = ROOT / "workflow" / "scripts" / "fetch_dataset.py"
    done = run(tmp_path, script, "--card", card.model_dump_json(), "--place", "none", "--downloads", "d",
               "--out", "x/fetched.json")  # fmt: skip
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_environment_that_cannot_be_built(tmp_path):
    (tmp_path / "own.yaml").write_text("dependencies: [python=3.11, pip, {pip: [no-such-package==1.0]}]")
    script = ROOT / "workflow" / "scripts" / "build_environment.py"
    done = run(tmp_path, script, "--file", "own.yaml", "--lock", "envs/lock.txt")
    assert done.returncode == 1
    assert "error: " in done.stderr


def test_what_the_doctor_says(tmp_path):
    for name in ("registry", "envs", "config.yaml", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = run(tmp_path, "-m", "discern", "doctor", "config/ci.yaml")
    assert "package index" in done.stdout


def test_secrets_are_taken_out_of_messages(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for value in SECRETS.values():
        assert not leaks(redacted(f"failed: '{value}' at {value}, {value}"))
    assert redacted("http://host/a@b mail@host") == "http://host/a@b mail@host"


@pytest.mark.parametrize(
    "url", ["https://me:secret@host/x", "https://token@host/x", "http://h/\n--x", "http://[x"]
)
def test_cards_hold_no_passwords(url):
    for source in ({"kind": "url", "url": url}, {"kind": "git", "url": url, "commit": "0" * 40}):
        with pytest.raises(DiscernError, match=r"address"):
            parse(DatasetCard, DATA | {"source": source}, "x.yaml")


@pytest.mark.parametrize(
    "value", ["--index-url=http://evil", "a b", "a\n--extra-index-url http://evil", "../x"]
)
def test_packages_are_no_options_of_pip(value):
    for field in ("package", "version"):
        weights = PACKAGE | {field: value}
        with pytest.raises(DiscernError, match=field):
            parse(ModelCard, {"name": "x", "weights": weights, "loader": {"route": "onnx"},
                              "preprocess": {"resize": "squash", "size": 8},
                              "features": [{"name": "a", "d": 2}]}, "x.yaml")  # fmt: skip


@pytest.mark.faults
def test_a_run_of_the_workflow_keeps_secrets(tmp_path, monkeypatch):
    """All that a study writes, and all that Snakemake keeps of it."""
    project = Project.copy_to(tmp_path / "project")
    project.edit("config/ci.yaml", models=["pixels32"], datasets=["ct_organs"],
                 umap={"datasets": []}, rise={"datasets": []})  # fmt: skip
    for name, value in (SECRETS | ELSEWHERE).items():
        if not name.endswith(("INDEX_URL", "DEFAULT_INDEX")) and not name.startswith("PIP"):
            monkeypatch.setenv(name, value)
    run = project.snakemake()
    assert run.status == 0, run.text[-3000:]
    made = [
        project.path / name for name in ("results", "resources/datasets", "resources/weights", ".snakemake")
    ]
    files = [f for folder in made for f in folder.rglob("*") if f.is_file()]
    assert len(files) > 30
    assert [str(f) for f in files if b"PLANTED" in f.read_bytes()] == []
    assert not leaks(run.text)
    assert json.loads((project.path / "results/ci/run.json").read_text())["status"]
    survived("planted tokens and passwords: a run", tried=len(SECRETS))
