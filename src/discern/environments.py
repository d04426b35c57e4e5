"""One pin list, two builders: conda reads ``envs/*.yaml`` with ``--use-conda``, uv builds it without.

Source of the pattern: a virtual environment made from the same pins is an ordinary tracked output,
so a broken environment fails alone.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from discern.errors import DiscernError, problem
from discern.fingerprint import digest
from discern.validation import load_yaml

PIN = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^\s=*]+")


def read_environment(path: Path | str) -> tuple[str, list[str]]:
    """Python version and pinned requirements of a conda environment file."""
    python, pins = None, []
    for item in load_yaml(path).get("dependencies", []):
        if isinstance(item, dict):
            pins += item.get("pip", [])
        elif match := re.fullmatch(r"python\s*=+\s*([\d.]+?)(\.\*)?", item):
            python = match[1]
        elif not re.fullmatch(r"pip(\s*[=<>].*)?", item):
            raise problem(str(path), f"'{item}' is not python, pip or a pinned pip requirement")
    if python is None:
        raise problem(str(path), "python is not pinned", repair="add `- python=3.11`")
    if loose := [p for p in pins if not PIN.fullmatch(p)]:
        raise problem(str(path), f"not pinned: {', '.join(loose)}", repair="write name==version")
    return python, pins


def environment_digest(path: Path | str) -> str:
    """Changes with the pins, not with comments or order."""
    python, pins = read_environment(path)
    return digest([python, sorted(pins)])


def _uv_variables() -> dict[str, str]:
    """pip's index settings in uv's words; uv reads none of pip's own.

    Find-links folders are left out on purpose: a CPU-only torch wheel in one would be preferred to
    the index's build, and does not fit the index's torchvision.
    """
    variables = dict(os.environ)
    for pip, uv in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_CERT", "SSL_CERT_FILE")):
        if pip in variables:
            variables.setdefault(uv, variables[pip])
    return variables


def build(path: Path | str, lock: Path | str) -> None:
    """Build the virtual environment beside ``lock``; the lock (all versions) is written last."""
    from uv import find_uv_bin

    python, pins = read_environment(path)
    prefix = Path(lock).parent
    shutil.rmtree(prefix, ignore_errors=True)
    prefix.mkdir(parents=True)
    requirements = prefix / "requirements.txt"
    requirements.write_text("\n".join(pins) + "\n", encoding="utf-8")
    interpreter = str(prefix / "bin" / "python")
    uv = [find_uv_bin(), "--no-progress"]
    _call([*uv, "venv", "--quiet", "--allow-existing", "--python", python, str(prefix)])
    _call([*uv, "pip", "install", "--python", interpreter, "-r", str(requirements)])
    _call([*uv, "pip", "check", "--python", interpreter])
    lines = _call([*uv, "pip", "freeze", "--python", interpreter])
    compile_imports(interpreter, pins)
    Path(lock).write_text(lines, encoding="utf-8")


#: Run in a new environment with the names of its pins: import what they install, whatever that says.
IMPORT_ALL = """
import importlib, importlib.metadata, re, sys
pinned = {re.sub("[-_.]+", "-", name).lower() for name in sys.argv[1:]}
for module, packages in importlib.metadata.packages_distributions().items():
    if pinned & {re.sub("[-_.]+", "-", name).lower() for name in packages}:
        try:
            importlib.import_module(module)
        except BaseException as error:
            print(f"{module}: {error}", file=sys.stderr)
"""


def compile_imports(interpreter: str, pins: list[str]) -> None:
    """Byte code of what jobs import, once and before them: afterwards an import takes a third of the time.

    Importing compiles the few thousand modules that are used; compiling all that is installed takes
    several times as long. Left to the jobs, those that start together all compile the same.
    """
    names = [re.split(r"==|\[", pin)[0] for pin in pins]
    # Isolated: nothing of the working directory is imported, and no variable forbids byte code.
    command = [interpreter, "-I", "-c", IMPORT_ALL, *names]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    sys.stderr.write(done.stderr[-2000:])


def _call(command: list[str]) -> str:
    """Run one uv command; its messages go to the log, and into the error if it fails."""
    done = subprocess.run(command, env=_uv_variables(), text=True, capture_output=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode:
        reason = " ".join(done.stderr.rpartition("error: ")[2].split())
        name = " ".join(itertools.takewhile(lambda word: not word.startswith("-"), command[2:]))
        raise DiscernError(f"uv {name} failed: {reason[:400] or f'status {done.returncode}'}")
    return done.stdout


if __name__ == "__main__":  # the bootstrap of the tests asks for the pins of several files
    print("\n".join(sorted({pin for file in sys.argv[1:] for pin in read_environment(file)[1]})))
