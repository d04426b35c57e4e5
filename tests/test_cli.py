"""The commands as a person types them, run on the shipped registry."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from discern.cli import main, study_files
from discern.config import read_study
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of registry, environments and studies that a test may damage."""
    for name in ("registry", "envs", "config"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


def test_models_lists_every_card_with_its_facts(capsys):
    assert main(["models"]) == 0
    rows = {line.split()[0]: line for line in lines_of(capsys)[1:]}
    assert rows.keys() == set(Registry().models.names())
    for part in ("MedSigLIP-448", "medical_vlm", "1152", "448", "torch", "hub, gated"):
        assert part in rows["medsiglip"]


def test_datasets_lists_every_card_with_its_facts(capsys):
    assert main(["datasets"]) == 0
    rows = {line.split()[0]: line for line in lines_of(capsys)[1:]}
    assert rows.keys() == set(Registry().datasets.selectable())
    for part in ("Fundus", "1200", " 5 "):
        assert part in rows["deepdrid"]


def test_the_state_follows_the_files(capsys, project):
    folder = project / "resources" / "datasets"
    made = {
        "breakhis": folder / "breakhis" / "histology_slides" / "breast" / "SOB_B_A-14-22549AB-40-001.png",
        "ct_organs": folder / "ct_organs" / "fetched.json",
    }
    for name, file in made.items():
        main(["datasets"])
        before = next(line for line in lines_of(capsys) if line.startswith(f"{name} "))
        file.parent.mkdir(parents=True)
        file.touch()
        main(["datasets"])
        after = next(line for line in lines_of(capsys) if line.startswith(f"{name} "))
        assert " automatic " in before
        assert " present " in after


def test_show_tells_transform_feature_and_what_is_missing(capsys):
    assert main(["show", "vit_l16"]) == 0
    text = capsys.readouterr().out
    assert "transform: 8-bit RGB; shortest side to 248 px (bicubic); centre crop 224 px" in text
    assert "default feature: cls (d = 1024)" in text
    assert "patch_mean" in text


def test_show_tells_what_is_missing_for_the_owner_of_the_weights(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    feature = Registry().models["medsiglip"].features[0].name
    for name in ("medsiglip", f"medsiglip@{feature}"):
        assert main(["show", name]) == 0
        text = capsys.readouterr().out
        assert "files: needs you, resources/weights/medsiglip/" in text
        assert "missing: google/medsiglip-448 is gated: accept the terms at" in text


def test_show_of_a_data_set(capsys):
    assert main(["show", "deepdrid"]) == 0
    assert "modality: Fundus" in capsys.readouterr().out


def test_unknown_name_has_a_hint_and_status_2(capsys):
    assert main(["show", "biomedclib"]) == 2
    assert (
        "error: no model or data set is named 'biomedclib'; did you mean 'biomedclip'"
        in capsys.readouterr().err
    )


def test_another_registry_is_listed(capsys, tmp_path):
    (tmp_path / "models").mkdir()
    card = (ROOT / "registry" / "models" / "pixels32.yaml").read_text()
    (tmp_path / "models" / "mine.yaml").write_text(card.replace("name: pixels32", "name: mine", 1))
    assert main(["models", "--registry", str(tmp_path)]) == 0
    assert [line.split()[0] for line in lines_of(capsys)[1:]] == ["mine"]


def test_study_prints_what_the_workflow_reads(capsys, tmp_path):
    assert main(["study", "config/demo.yaml"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    file = tmp_path / "printed.yaml"
    file.write_text(yaml.safe_dump(printed))
    assert read_study(file) == read_study("config.yaml", "config/demo.yaml")


def test_config_yaml_comes_first_as_in_the_workflow():
    names = ["config.yaml", "config/demo.yaml"]
    assert study_files(["config/demo.yaml"]) == [Path(n) for n in names]
    assert study_files(names) == [Path(n) for n in names]
    assert study_files([]) == [Path("config.yaml")]


def test_doctor_passes_a_sound_study(capsys, project):
    assert main(["doctor", "config/demo.yaml"]) == 0
    lines = lines_of(capsys)
    assert any(line.startswith("PASS  study: demo") for line in lines)
    assert not any(line.startswith("FAIL") for line in lines)


@pytest.mark.parametrize(
    ("file", "before", "after", "part"),
    [
        ("config/demo.yaml", "pixels32", "pixels23", "FAIL  study: unknown model 'pixels23'"),
        ("registry/models/uni.yaml", "gated", "gatet", "FAIL  card: "),
        ("envs/torch.yaml", "timm==", "timm>=", "FAIL  environment: "),
    ],
)
def test_doctor_finds_planted_mistakes(capsys, project, file, before, after, part):
    text = (project / file).read_text()
    assert before in text
    (project / file).write_text(text.replace(before, after, 1))
    assert main(["doctor", "config/demo.yaml"]) == 1
    lines = lines_of(capsys)
    found = next(i for i, line in enumerate(lines) if line.startswith(part))
    assert any("->" in line for line in lines[found : found + 6])


def test_results_prints_table_and_report(capsys, project):
    assert main(["results", "config/demo.yaml"]) == 2
    assert "study 'demo' has no table yet" in capsys.readouterr().err
    (project / "results/demo/tables").mkdir(parents=True)
    (project / "results/demo/report").mkdir()
    (project / "results/demo/tables/table3.txt").write_text("Table 3\nmodel 97.0\n")
    (project / "results/demo/tables/table3.group.txt").write_text("Table 3, group\n")
    (project / "results/demo/report/index.html").touch()
    for study in ("demo", "config/demo.yaml"):
        assert main(["results", study]) == 0
        text = capsys.readouterr().out
        assert text.startswith("Table 3\nmodel 97.0\n\nTable 3, group\n")
        assert "report: results/demo/report/index.html\n" in text


def test_runs_as_a_module_and_writes_mistakes_to_stderr():
    done = subprocess.run(
        [sys.executable, "-m", "discern", "show", "nobody"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
