"""Environment files: everything pinned, and really built."""

from pathlib import Path

import pytest

from discern.environments import build, compile_imports, environment_digest, read_environment
from discern.errors import DiscernError
from discern.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
GOOD = """
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip=26.0
  - pip:
      - numpy==2.4.6
      - open-clip-torch[extra]==3.3.0
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "env.yaml"
        file.write_text(text)
        return file

    return write


MODELS = Registry([ROOT / "registry"]).models
USED = {"data", "analysis"} | {MODELS[name].environment for name in MODELS.selectable()}


@pytest.mark.parametrize("file", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda f: f.stem)
def test_shipped_environment(file):
    python, pins = read_environment(file)
    assert python == "3.11"
    names = [pin.split("==")[0] for pin in pins]
    assert names == sorted(names)
    if file.stem in USED:  # what the scripts of every job need; others serve single tests
        assert {"numpy", "pillow", "pyarrow", "pydantic", "pyyaml"} <= set(names)


def test_pins_are_read(written):
    assert read_environment(written(GOOD)) == ("3.11", ["numpy==2.4.6", "open-clip-torch[extra]==3.3.0"])


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        ("numpy==2.4.6", "numpy", "not pinned: numpy"),
        ("numpy==2.4.6", "numpy>=2", "not pinned: numpy>=2"),
        ("numpy==2.4.6", "numpy==2.*", "not pinned"),
        ("python=3.11", "pip", "python is not pinned"),
        ("  - pip=26.0", "  - pandas", "'pandas' is not python, pip or a pinned pip requirement"),
    ],
)
def test_unpinned_is_refused(written, before, after, part):
    with pytest.raises(DiscernError) as error:
        read_environment(written(GOOD.replace(before, after)))
    assert "env.yaml" in str(error.value)
    assert part in str(error.value)


def test_digest_follows_the_pins_alone(written):
    digest = environment_digest(written(GOOD))
    assert environment_digest(written("# why\n" + GOOD)) == digest
    swapped = GOOD.replace("      - numpy==2.4.6\n", "") + "      - numpy==2.4.6\n"
    assert environment_digest(written(swapped)) == digest
    assert environment_digest(written(GOOD.replace("2.4.6", "2.4.5"))) != digest
    assert environment_digest(written(GOOD.replace("3.11", "3.12"))) != digest


def test_an_environment_is_built_and_locked(written, tmp_path):
    lock = tmp_path / "built" / "lock.txt"
    build(written("dependencies:\n  - python=3.11\n"), lock)
    assert lock.is_file()
    assert (lock.parent / "bin" / "python").exists()


def test_what_the_pins_install_is_compiled_and_a_failing_import_is_only_told(written, tmp_path, capsys):
    lock = tmp_path / "built" / "lock.txt"
    build(written("dependencies:\n  - python=3.11\n"), lock)
    site = next((lock.parent / "lib").glob("python*/site-packages"))
    for name, text in (("planted", "import planted.used"), ("broken", "import nowhere"), ("other", "")):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(text)
        (site / name / "used.py").write_text("")
        (site / name / "idle.py").write_text("")
        about = site / f"{name}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (about / "top_level.txt").write_text(name)
    compile_imports(str(lock.parent / "bin" / "python"), ["planted[extra]==1", "broken==1"])
    compiled = {f"{f.parents[1].name}.{f.name.split('.')[0]}" for f in site.glob("*/__pycache__/*.pyc")}
    assert compiled & {f"{m}.{n}" for m in ("planted", "broken", "other") for n in ("used", "idle")} == {
        "planted.used"
    }
    assert "broken: No module named 'nowhere'" in capsys.readouterr().err


def test_a_failed_build_leaves_no_lock(written, tmp_path):
    lock = tmp_path / "built" / "lock.txt"
    with pytest.raises(DiscernError, match=r"uv venv failed: No interpreter found for Python 9\.99"):
        build(written("dependencies:\n  - python=9.99\n"), lock)
    assert not lock.exists()
