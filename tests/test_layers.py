"""Imports only point down, and light processes import nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "discern"

# From the bottom up; a module may import modules of lower lines, and of its own package.
LAYERS = [
    {"errors"},
    {"secrets", "yaml_bounds"},
    {"files", "fingerprint", "free_memory", "merge", "own_code", "paths", "run_words", "validation"},
    {"adapter_card", "contracts", "decoding_card", "environments", "scripting", "sources"},
    {"dataset_card", "model_card"},
    {"registry"},
    {"config"},
    {"fetching", "matrix"},
    {"data", "encoders"},
    {"features"},
    {"analysis"},
    {"report"},
    {
        "demands",
        "environment_locks",
        "locks",
        "machine",
        "pin",
        "plan",
        "preflight",
        "results",
        "run_record",
        "schemas",
        "slurm_queue",
    },
    {"model_state"},
    {"doctor"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
HEAVY = {
    "torch", "numpy", "pyarrow", "PIL", "timm", "transformers", "open_clip", "onnxruntime", "scipy",
    "sklearn", "umap", "numba", "matplotlib", "nibabel", "pydicom", "skimage", "huggingface_hub", "kagglehub",
}  # fmt: skip


def imported(text):
    """Dotted names of every module that a source text may import, wherever it stands."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names.update(f"{module}.{a.name}" for a in node.names) if module == "discern" else names.add(
                module
            )
    return names


def upward(package, text):
    """The imports of a module of ``package`` that do not point down."""
    tops = {n.split(".")[1] for n in imported(text) if n.startswith("discern.")}
    return sorted(t for t in tops if t in RANK and t != package and RANK[t] >= RANK[package])


def package_of(file):
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_module_has_a_layer():
    assert {package_of(f) for f in FILES} <= RANK.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_point_down(file):
    assert upward(package_of(file), file.read_text()) == []


def test_an_upward_import_is_seen():
    assert upward("data", "def f():\n    from discern.report.tables import x") == ["report"]
    assert upward("data", "from discern import analysis") == ["analysis"]
    assert upward("report", "from discern.data.pictures.images import open_rgb") == []


def test_the_library_does_not_know_snakemake():
    for file in FILES:
        assert not any(n.split(".")[0] == "snakemake" for n in imported(file.read_text())), file


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda f: f.name)
def test_scripts_reach_the_library_alone(file):
    tops = {name.split(".")[0] for name in imported(file.read_text())}
    assert tops - sys.stdlib_module_names <= {"bootstrap", "discern"}


def loaded_by(code):
    script = f"import sys\n{code}\nprint('LOADED', *sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, check=True
    )
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


def test_light_processes_import_nothing_heavy():
    modules = (
        "registry config matrix plan preflight doctor results run_record schemas environments scripting cli"
    )
    imports = "\n".join(f"import discern.{m}" for m in modules.split())
    calls = "\n".join(
        f"discern.cli.main({c.split()})" for c in ("models", "datasets", "show biomedclip", "show merlin")
    )
    assert loaded_by(f"{imports}\n{calls}") & HEAVY == set()


def test_heavy_imports_would_be_seen():
    assert "numpy" in loaded_by("import discern.contracts")
