"""Locks of environments: complete, fitting their pins, used by default, refused when stale."""

import hashlib
import re
from pathlib import Path

import pytest

from discern import environment_locks
from discern.cli import main
from discern.environments import (
    build,
    check_lock,
    environment_digest,
    installed_from,
    lock_file,
    pins_digest,
    read_environment,
    requirements,
)
from discern.errors import DiscernError

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "envs").glob("*.yaml"))
#: name==version, a marker where platforms differ, one hash or more.
LINE = re.compile(r"([\w.-]+)==([\w.+!-]+)( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+")
PINS = "channels: [conda-forge, nodefaults]\ndependencies:\n  - python=3.11\n  - pip:\n      - einops=={}\n"


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "envs" / "small.yaml"
    file.parent.mkdir()
    file.write_text(PINS.format("0.8.2"))
    return file


def test_every_environment_has_a_lock_and_no_lock_is_left_over():
    assert [f.name for f in sorted((ROOT / "envs/locks").iterdir())] == [f.name for f in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_lock_fits_its_pins_and_is_complete(file):
    check_lock(file)
    lines = requirements(lock_file(file))
    found = [LINE.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if not match] == []
    versions = {match[1]: match[2] for match in found if not match[3]}
    pins = dict(re.sub(r"\[.*?\]", "", pin).split("==") for pin in read_environment(file)[1])
    assert pins.items() <= versions.items()


def test_no_lock_names_an_index():
    for file in [
        *(ROOT / "envs/locks").iterdir(),
        ROOT / "requirements.txt",
        ROOT / "audit/requirements.txt",
    ]:
        assert not re.search(r"://|index-url|find-links", file.read_text()), file


@pytest.mark.parametrize("name", ["requirements.txt", "audit/requirements.txt"])
def test_the_programs_own_requirements_have_hashes(name):
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / name).read_text())
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert lines
    assert [line for line in lines if not LINE.fullmatch(line.strip())] == []


def test_a_lock_is_made_and_installed_instead_of_the_pins(small, tmp_path, capsys):
    lock = environment_locks.lock(small)
    assert installed_from(small) == lock
    build(small, tmp_path / "built" / "lock.txt")
    assert (tmp_path / "built/lock.txt").read_text() == "einops==0.8.2\n"
    assert "--hash=sha256:" in (tmp_path / "built/requirements.txt").read_text()
    assert "has no lock" not in capsys.readouterr().err


def test_a_package_that_is_not_the_locked_one_is_not_installed(small, tmp_path):
    lock = environment_locks.lock(small)
    lock.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", lock.read_text()))
    with pytest.raises(DiscernError, match="uv pip sync failed"):
        build(small, tmp_path / "built" / "lock.txt")
    assert not (tmp_path / "built/lock.txt").exists()


def test_a_stale_lock_is_refused_with_its_repair(small, tmp_path):
    lock = environment_locks.lock(small)
    small.write_text(PINS.format("0.6.1"))
    for refused in (lambda: check_lock(small), lambda: build(small, tmp_path / "built" / "lock.txt")):
        with pytest.raises(DiscernError) as error:
            refused()
        assert str(lock) in str(error.value)
        assert "python -m discern lock small" in str(error.value)
    environment_locks.lock(small)
    check_lock(small)
    assert requirements(lock)[0].startswith("einops==0.6.1 ")


def test_without_a_lock_the_pins_are_installed_with_a_warning(small, tmp_path, capsys):
    assert installed_from(small) == small
    build(small, tmp_path / "built" / "lock.txt")
    assert (tmp_path / "built/lock.txt").read_text() == "einops==0.8.2\n"
    assert "python -m discern lock small" in capsys.readouterr().err


def test_the_digest_follows_locked_versions_and_neither_hashes_nor_comments(small):
    assert environment_digest(small) == pins_digest(small)
    lock = environment_locks.lock(small)
    digest, text = environment_digest(small), lock.read_text()
    assert digest != pins_digest(small)
    lock.write_text(
        "# why\n" + re.sub(r"( +)(--hash=\S+)", r"\1\2\n\1--hash=sha256:" + "0" * 64, text, count=1)
    )
    assert environment_digest(small) == digest
    lock.write_text(text + "      - idna==3.20\n        --hash=sha256:" + "0" * 64 + "\n")
    assert environment_digest(small) != digest


def test_markers_that_say_nothing_go_and_those_that_differ_stay():
    lines = [
        "a==1 ; python_full_version < '3.12' and sys_platform == 'linux' --hash=sha256:0",
        "b==1 ; python_full_version < '3.12' --hash=sha256:0 --hash=sha256:1",
        "c==1 ; sys_platform == 'darwin' or sys_platform == 'linux' --hash=sha256:0",
        "d==1 ; sys_platform == 'win32' --hash=sha256:0",
        "e==1 --hash=sha256:0",
    ]
    assert environment_locks.simplified(lines, "3.11") == [
        "a==1 ; sys_platform == 'linux' --hash=sha256:0",
        "b==1 --hash=sha256:0 --hash=sha256:1",
        "c==1 --hash=sha256:0",
        "e==1 --hash=sha256:0",
    ]


def test_the_command_locks_by_name_and_says_what_it_could_not(small, monkeypatch, capsys):
    monkeypatch.chdir(small.parents[1])
    assert main(["lock", "small"]) == 0
    assert "envs/locks/small.yaml: 1 packages" in capsys.readouterr().out
    small.write_text(PINS.format("99.0"))
    assert main(["lock", "small"]) == 1
    assert "envs/small.yaml: uv pip compile failed" in capsys.readouterr().err


def test_the_container_holds_the_present_locks():
    copied = re.findall(r"^COPY (\S+) /conda-envs/(\w+)/", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert copied
    for file, digest in copied:  # Snakemake looks for an environment in the container by this digest
        assert hashlib.md5((ROOT / file).read_bytes()).hexdigest() == digest, f"make containerfile: {file}"
