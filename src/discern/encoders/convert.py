"""The explicit step for checkpoints whose pickle names more than tensors.

Such files are refused where features are made. A person who trusts one says so with its digest, and
its tensors are taken out in a process of their own (``discern.encoders.pickled``) in which every
foreign object of the pickle becomes an inert placeholder. What comes out is a safetensors file.
"""

from __future__ import annotations

import json
import os
import pickletools
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from discern import paths
from discern.encoders.record import CONVERTED, read_weights, write_record
from discern.environments import environment_digest
from discern.errors import DiscernError, problem
from discern.files import atomic, sha256_file
from discern.model_card import ModelCard

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
WORKER = Path(__file__).with_name("pickled.py")

#: Modules whose names a pickle of nothing but tensors mentions.
TENSORS = ("torch", "collections", "_codecs", "numpy")


@dataclass(frozen=True)
class Pickled:
    """A fetched file in pickle format."""

    path: Path
    sha256: str
    converted: bool
    foreign: list[str]  # modules beside torch that its pickle names


def pickled_files(card: ModelCard) -> list[Pickled]:
    """The fetched files of a model that are pickles; DiscernError if they are not here."""
    record = _record(card)
    files = read_weights(record)
    found = []
    for name, path in files.items():
        if path.suffix in SUFFIXES:
            found.append(Pickled(path, sha256_file(path), name + CONVERTED in files, foreign_modules(path)))
    return found


def foreign_modules(file: Path) -> list[str]:
    """Top modules beside torch that a pickle names, read from its text; nothing is loaded.

    Empty also for torch's old format, whose pickle is not looked into.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            with archive.open(name) as handle:
                return _modules(handle.read())
    except (zipfile.BadZipFile, StopIteration, ValueError):
        return []


def _modules(pickled: bytes) -> list[str]:
    found, strings = set(), [""]
    for code, argument, _ in pickletools.genops(pickled):
        if code.name == "GLOBAL":
            found.add(str(argument).split(" ")[0])
        elif code.name == "STACK_GLOBAL":
            found.add(strings[-2])
        if isinstance(argument, str):
            strings.append(argument)
    tops = {module.split(".")[0] for module in found}
    return sorted(tops.difference(TENSORS))


def convert(card: ModelCard, trusted: str, python: str = "") -> Path:
    """Write ``<file>.converted.safetensors`` beside the pickle with SHA-256 ``trusted``; its path.

    ``python``: an interpreter with torch; empty: that of the card's environment. The record of the
    weights then names both files, and the encoder reads the converted one.
    """
    files = pickled_files(card)
    chosen = next((f for f in files if f.sha256 == trusted), None)
    if chosen is None:
        raise problem(
            f"model '{card.name}'",
            f"no fetched file has sha256 {trusted}",
            allowed=[f"{f.sha256} ({f.path.name})" for f in files] or ["no file of this model is a pickle"],
        )
    out = chosen.path.with_name(chosen.path.name + CONVERTED)
    task = {
        "wanted": card.wanted_prefixes(),
        "metadata": {"source": chosen.path.name, "source_sha256": chosen.sha256},
    }
    interpreter = shutil.which(python or _interpreter(card)) or python
    with atomic(out) as temporary:
        files_and_task = [str(chosen.path.absolute()), str(temporary.absolute()), json.dumps(task)]
        _run([os.path.abspath(interpreter), "-I", str(WORKER), *files_and_task], chosen.path)
    record = _record(card)
    write_record(card.name, list(read_weights(record).values()), record)
    return out


def _run(command: list[str], file: Path) -> None:
    """Run the worker in an empty home and with nothing of this process's environment."""
    with tempfile.TemporaryDirectory() as home:
        variables = {"HOME": home, "TMPDIR": home, "PATH": os.defpath, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, cwd=home, env=variables, text=True, capture_output=True, check=False
            )
        except OSError as error:
            raise DiscernError(f"{command[0]}: cannot be run ({error})") from error
    if done.returncode:
        reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise problem(str(file), f"could not be converted ({reason})")


def _interpreter(card: ModelCard) -> str:
    file = Path("envs") / f"{card.environment}.yaml"
    lock = Path(paths.ENVIRONMENT.format(env=card.environment, digest=environment_digest(file)))
    if not lock.is_file():
        raise problem(
            f"environment '{card.environment}'",
            "is not built",
            repair=f"snakemake --cores 1 {lock}, or give --python PATH of an interpreter that has torch",
        )
    return str(lock.parent / "bin" / "python")


def _record(card: ModelCard) -> Path:
    record = Path(paths.WEIGHTS_FETCHED.format(model=card.name))
    if not record.is_file():
        raise problem(
            str(record), "is not there yet", repair=f"fetch the weights first: snakemake --cores 1 {record}"
        )
    return record
