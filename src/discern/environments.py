"""One list of pins, one lock and two builders: conda reads them with ``--use-conda``, uv without.

``envs/<name>.yaml`` holds what somebody chose, ``envs/locks/<name>.yaml`` all that follows from it: every
package with version and hashes, again as a conda environment file, so that both builders install the same.
An environment without a lock is built from its pins. A virtual environment is an ordinary tracked output,
so a broken one fails alone.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from discern.errors import DiscernError, problem
from discern.fingerprint import digest
from discern.secrets import redacted
from discern.validation import load_yaml, shown

PIN = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^\s=*]+")
#: First line of a requirement in a lock; its hashes stand on the lines below.
LOCKED = re.compile(r"^ +- ([\w.-]+==[^\n]+)$", re.MULTILINE)


def read_environment(path: Path | str) -> tuple[str, list[str]]:
    """Python version and pinned requirements of a conda environment file."""
    python, pins = None, []
    for item in _dependencies(path):
        if isinstance(item, dict):
            pins += item["pip"]
        elif match := re.fullmatch(r"python\s*=+\s*([\d.]+?)(\.\*)?", item):
            python = match[1]
        elif not re.fullmatch(r"pip(\s*[=<>].*)?", item):
            raise problem(str(path), f"'{item}' is not python, pip or a pinned pip requirement")
    if python is None:
        raise problem(str(path), "python is not pinned", repair="add `- python=3.11`")
    if loose := [p for p in pins if not PIN.fullmatch(p)]:
        raise problem(str(path), f"not pinned: {', '.join(loose)}", repair="write name==version")
    return python, pins


def _dependencies(path: Path | str) -> list[Any]:
    """Entries of an environment file: texts and mappings ``pip: [texts]``; DiscernError for any other."""
    entries = load_yaml(path).get("dependencies", [])
    for entry in entries if isinstance(entries, list) else [entries]:
        inner = entry.get("pip") if isinstance(entry, dict) and len(entry) == 1 else [entry]
        if not isinstance(inner, list) or not all(isinstance(text, str) for text in inner):
            raise problem(str(path), f"dependencies: found {shown(entry)}", allowed=["texts", "pip: [texts]"])
    if not isinstance(entries, list):
        raise problem(str(path), f"dependencies: found {shown(entries)}, not a list")
    return entries


def pins_digest(path: Path | str) -> str:
    """Changes with the pins, not with comments or order."""
    python, pins = read_environment(path)
    return digest([python, sorted(pins)])


def environment_digest(path: Path | str) -> str:
    """Changes with what is installed: pins and locked versions, not comments, order or hashes.

    A package's hashes grow when its authors publish it for one more platform; what is installed stays.
    """
    lock = lock_file(path)
    if not lock.is_file():
        return pins_digest(path)
    return digest([pins_digest(path), sorted(LOCKED.findall(lock.read_text(encoding="utf-8")))])


def lock_file(path: Path | str) -> Path:
    """Where the lock of an environment file stands, or would."""
    path = Path(path)
    return path.parent / "locks" / path.name


def installed_from(path: Path | str) -> Path:
    """The file that a builder installs: the environment's lock, or its pins while it has none."""
    lock = lock_file(path)
    return lock if lock.is_file() else Path(path)


def check_lock(path: Path | str) -> None:
    """DiscernError if the environment has a lock and that was made from other pins."""
    lock = lock_file(path)
    if not lock.is_file():
        return
    with lock.open(encoding="utf-8") as handle:
        head = [line for line in handle if line.startswith("# pins: ")]
    if head != [f"# pins: {pins_digest(path)}\n"]:
        raise problem(str(lock), f"made from other pins than {path} has now", repair=relock(path))


def relock(path: Path | str) -> str:
    """The command that locks an environment."""
    return f"python -m discern lock {Path(path).stem}"


def requirements(path: Path | str) -> list[str]:
    """One line per package for pip and uv: with hashes from a lock, plain from pins."""
    for item in load_yaml(path)["dependencies"]:
        if isinstance(item, dict):
            return list(item["pip"])
    return []


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
    """Build the virtual environment beside ``lock``; that file (what was installed) is written last."""
    python, pins = read_environment(path)
    check_lock(path)
    source = installed_from(path)
    prefix = Path(lock).parent
    shutil.rmtree(prefix, ignore_errors=True)
    prefix.mkdir(parents=True)
    wanted = prefix / "requirements.txt"
    wanted.write_text("\n".join(requirements(source)) + "\n", encoding="utf-8")
    interpreter = str(prefix / "bin" / "python")
    uv_call("venv", "--quiet", "--allow-existing", "--python", python, str(prefix))
    if source == Path(path):
        sys.stderr.write(f"warning: {path} has no lock; what its pins need is chosen now: {relock(path)}\n")
        uv_call("pip", "install", "--python", interpreter, "-r", str(wanted))
    else:
        uv_call("pip", "sync", "--python", interpreter, "--require-hashes", str(wanted))
    uv_call("pip", "check", "--python", interpreter)
    lines = uv_call("pip", "freeze", "--python", interpreter)
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
    sys.stderr.write(redacted(done.stderr[-2000:]))


def uv_call(*arguments: str, cwd: Path | None = None) -> str:
    """Run one uv command; its messages go to the log, and into the error if it fails."""
    from uv import find_uv_bin

    done = subprocess.run(
        [find_uv_bin(), "--no-progress", *arguments],
        cwd=cwd, env=_uv_variables(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    sys.stderr.write(redacted(done.stderr))
    if done.returncode:
        reason = " ".join(done.stderr.rpartition("error: ")[2].split())
        name = " ".join(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
        raise DiscernError(f"uv {name} failed: {reason[:400] or f'status {done.returncode}'}")
    return done.stdout


if __name__ == "__main__":  # the bootstrap of the tests asks for the pins of several files
    print("\n".join(sorted({pin for file in sys.argv[1:] for pin in read_environment(file)[1]})))
