"""Odd names of folders, files, classes, titles and studies go through every shell rule as they are."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.hostile.names import ALL, EVIL, data_set, study
from tests.survived import survived
from tests.workflow.harness import ROOT, Project

CLASSES = [EVIL["page"], EVIL["substitution"]]
PROJECT = "my 'project' $(touch pwned); \"é\""

#: What a shell line may hold unquoted: words that the workflow itself makes, of letters and digits.
OWN_WORDS = {"{params.run}", "{log}", "{wildcards.protocol}", "{params.batch}", "{params.fingerprint}"}
OWN_WORDS |= {"{params.downloads}", "{params.resized}", "{wildcards.rows}", "{params.rows}"}


def test_every_value_of_a_shell_line_is_quoted():
    """Whatever is not the workflow's own word has ``:q``; texts that may begin with a dash have ``=``."""
    seen = 0
    for file in [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]:
        for block in re.findall(
            r"^    shell:\n((?:        .*\n)+)", file.read_text(encoding="utf-8"), re.MULTILINE
        ):
            fields = set(re.findall(r"(?<!\{)\{[^{}]+\}(?!\})", block))
            unquoted = {f for f in fields if not f.endswith(":q}")} - OWN_WORDS
            assert not unquoted, f"{file.name}: {unquoted}"
            seen += len(fields)
    assert seen > 50


def test_no_rule_runs_anything_but_a_shell_line():
    """``script:`` and ``run:`` would put names into a program's text."""
    for file in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        assert not re.search(
            r"^    (script|run|notebook|wrapper):", file.read_text(encoding="utf-8"), re.MULTILINE
        )


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A checkout, a data set and a study with nothing but odd names."""
    base = tmp_path_factory.mktemp("names")
    project = Project.copy_to(base / PROJECT)
    place = base / "data sets" / ALL
    data_set(place, CLASSES)
    return project, place, study(project.path, place, CLASSES)


def test_the_shell_reads_every_name_as_it_is(evil):
    """The commands of a dry run, split by the shell's own rules, hold each name in one word."""
    project, place, file = evil
    run = project.snakemake("--dry-run", "--printshellcmds", "--forceall", study=file)
    assert run.status == 0, run.text[-3000:]
    commands = re.findall(r"^Shell command: (.*?)\n\n(?=\[|Job stats)", run.text, re.MULTILINE | re.DOTALL)
    words = {}
    for command in commands:
        said = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {command.rpartition(' > ')[0]}"],
            cwd=project.path, capture_output=True, check=True,
        )  # fmt: skip
        split = said.stdout.decode().split("\0")[:-1]
        words.setdefault(Path(split[1]).stem, []).extend(split)
        assert split[1] == str(project.path / "workflow" / "scripts" / Path(split[1]).name)
    assert f"--place={place}" in words["fetch_dataset"]
    assert f"--title=-m {ALL}" in words["explain_rise"]
    assert words.keys() >= {
        "fetch_dataset", "prepare_dataset", "split_dataset", "extract_features", "fit_svm", "embed_umap",
        "build_tables", "compare_models", "render_report",
    }  # fmt: skip
    assert not list(project.path.rglob("pwned"))


@pytest.mark.faults
def test_a_study_of_odd_names_runs_to_the_end(evil):
    project, place, file = evil
    run = project.snakemake(study=file)
    assert run.status == 0, run.text[-5000:]
    page = (project.path / "results" / "evil" / "report" / "index.html").read_text(encoding="utf-8")
    assert EVIL["page"] not in page
    assert len(list(place.rglob("*.png"))) == 24
    for folder in (project.path, place.parent.parent):
        assert not list(folder.rglob("pwned"))
    doctor = project.snakemake("doctor", study=file)
    assert "evil" in doctor.text
    survived(
        "names with blanks, quotes, $(...), newlines, braces, 255 bytes: a whole study", tried=len(EVIL) + 6
    )
