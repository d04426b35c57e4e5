"""The doctor's line for each model: what is here, what comes by itself, what only a person can do."""

import shutil
from pathlib import Path

import pytest
import yaml

from discern import doctor, paths
from discern.config import read_study
from discern.environments import environment_digest
from discern.files import write_json
from discern.model_state import model_state, total_download
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
HUB = {"kind": "hub", "repo": "org/net", "revision": "a" * 40, "files": ["w.bin"]}
OFFICIAL = {"weights": HUB | {"repo": "org/official", "bytes": 5_000_000}, "remote_code": True}
MODELS = {
    "here": {"weights": HUB | {"bytes": 9_000_000}},
    "comes": {"weights": HUB | {"bytes": 1_500_000_000}, "variants": {"official": OFFICIAL}},
    "gated": {"weights": HUB | {"gated": True, "terms": "https://terms.example"}},
    "byhand": {"weights": {"kind": "manual", "page": "https://page.example", "place": "net.pt"}},
    "unpinned": {"weights": HUB | {"revision": None}},
    "plain": {"licence": "a licence with a very long name, which no table could show as it stands"},
}
STUDY = [*MODELS, "comes@pixels"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one model of each kind; returns its study's findings, by text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    shutil.copytree(ROOT / "envs", "envs")
    Path("registry/models").mkdir(parents=True)
    Path("registry/datasets").mkdir()
    shutil.copy(ROOT / "registry/datasets/ct_organs.yaml", "registry/datasets")
    for name, changes in MODELS.items():
        card = {
            "name": name, "loader": {"route": "pixels"}, "preprocess": {"resize": "squash", "size": 8},
            "features": [{"name": "pixels", "d": 64}], "environment": "data",
        }  # fmt: skip
        Path(f"registry/models/{name}.yaml").write_text(yaml.safe_dump(card | changes))
    record = Path(paths.WEIGHTS_FETCHED.format(model="here"))
    write_json(record, {"model": "here", "files": {}, "digest": "0"})

    def findings(models=STUDY, **facts):
        study = {"study": "try", "models": list(models), "datasets": ["ct_organs"]} | facts
        Path("try.yaml").write_text(yaml.safe_dump(study))
        return doctor.examine([Path("try.yaml")], read_study("try.yaml"))

    return findings


def of_models(findings):
    """Name -> finding of each model's line."""
    return {f.text.split()[0]: f for f in findings if f.subject == "model" and f.status}


def test_every_model_has_a_line_with_its_state(project):
    lines = of_models(project())
    assert list(lines) == STUDY
    states = {name: finding.status for name, finding in lines.items()}
    assert [name for name, status in states.items() if status == "WARN"] == ["gated", "byhand", "unpinned"]
    for name, words in {
        "here": "present    -",
        "comes": "automatic          1.5 GB",
        "gated": "needs you  unknown  gated",
        "plain": "none needed",
        "comes@pixels": "automatic (comes)",
    }.items():
        assert " ".join(words.split()) in " ".join(lines[name].text.split())
    assert "data, to build" in lines["plain"].text
    assert lines["plain"].text.endswith("…")


def test_what_to_do_is_said_below_the_line(project):
    lines = of_models(project())
    assert "https://terms.example" in lines["gated"].repair
    assert "HF_TOKEN" in lines["gated"].repair
    assert "place w.bin in resources/weights/gated" in lines["gated"].repair
    assert "https://page.example" in lines["byhand"].repair
    assert "resources/weights/byhand" in lines["byhand"].repair
    assert "discern pin unpinned" in lines["unpinned"].repair


def test_a_token_or_a_placed_file_settles_it(project, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = doctor.render(project())
    assert of_models(project())["gated"].status == "PASS"
    assert "hf_secret" not in text
    monkeypatch.delenv("HF_TOKEN")
    for name, file in (("gated", "w.bin"), ("byhand", "net.pt"), ("unpinned", "w.bin")):
        Path("resources/weights", name).mkdir(parents=True)
        Path("resources/weights", name, file).write_text("x")
    assert {f.status for f in of_models(project()).values()} == {"PASS"}


def test_the_environment_of_these_very_pins_counts_as_built(project):
    lock = Path(paths.ENVIRONMENT.format(env="data", digest=environment_digest("envs/data.yaml")))
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert "data, built" in of_models(project())["plain"].text
    pins = Path("envs/data.yaml")
    pins.write_text(pins.read_text() + "      - tiny==1\n")
    assert "data, to build" in of_models(project())["plain"].text


def test_downloads_add_up_with_shared_files_once(project):
    states = [model_state(name, Registry()) for name in [*STUDY, "comes@official"]]
    assert total_download(states) == (1_505_000_000, ["gated", "byhand", "unpinned"])
    (total,) = [f for f in project() if f.subject == "weights"]
    assert total.text == "1.5 GB to download, and 3 of unknown size: gated, byhand, unpinned"


def test_remote_code_fails_until_the_study_allows_it(project):
    lines = of_models(project(["comes@official"]))
    assert lines["comes@official"].status == "FAIL"
    assert "allow_remote_code: true" in lines["comes@official"].repair
    lines = of_models(project(["comes@official"], allow_remote_code=True))
    assert lines["comes@official"].status == "PASS"
    assert "allowed" in lines["comes@official"].text


def test_the_head_stands_above_its_columns(project):
    head, first = doctor.render([f for f in project() if f.subject == "model"]).splitlines()[:2]
    assert head.index("environment") == first.index("data,")
    assert head.index("licence") == first.index("not stated")


def test_the_token_is_asked_for_once(project):
    (token,) = [f for f in project() if f.subject == "HF_TOKEN"]
    assert token.text == "not set; needed by gated"
    assert not [f for f in project(["comes"]) if f.subject == "HF_TOKEN"]
