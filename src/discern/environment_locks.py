"""``python -m discern lock``: every package that an environment's pins lead to, with its hashes.

Resolved once for Linux and macOS on both of their processors, so that one lock serves them all; where
they differ (CUDA's packages) a marker says so. No index address is written: whoever builds brings theirs.
"""

from __future__ import annotations

import re
import sys
import tempfile
from itertools import product
from pathlib import Path

from discern.environments import LOCKED, lock_file, pins_digest, read_environment, requirements, uv_call
from discern.errors import DiscernError
from discern.files import write_text
from discern.validation import load_yaml

#: What uv resolves for; ``{next}`` is the Python that follows the environment's.
SCOPE = """[tool.uv]
environments = ["python_full_version < '{next}' and sys_platform == 'linux'",
                "python_full_version < '{next}' and sys_platform == 'darwin'"]
"""
HEAD = """# Everything that envs/{name}.yaml installs, with hashes. Made by `python -m discern lock`; \
not to be edited.
# pins: {pins}
channels: [{channels}]
dependencies:
"""


def lock(path: Path | str, upgrade: bool = False) -> Path:
    """Write the lock of an environment file. Versions of the present lock stay unless ``upgrade``."""
    path = Path(path)
    python, pins = read_environment(path)
    target = lock_file(path)
    kept = requirements(target) if target.is_file() and not upgrade else []
    found = simplified(resolve(python, pins, kept), python)
    content = load_yaml(path)
    lines = [f"  - {item}" for item in content["dependencies"] if isinstance(item, str)]
    if found:
        lines += ["  - pip:", *(f"      - {line}".replace(" --hash", "\n        --hash") for line in found)]
    head = HEAD.format(
        name=path.stem, pins=pins_digest(path), channels=", ".join(content.get("channels", []))
    )
    write_text(target, head + "\n".join(lines) + "\n")
    return target


def resolve(python: str, pins: list[str], kept: list[str]) -> list[str]:
    """One requirement line with markers and hashes per package, by name."""
    major, minor = python.split(".")[:2]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "pyproject.toml").write_text(SCOPE.format(next=f"{major}.{int(minor) + 1}"), encoding="utf-8")
        (here / "pins.in").write_text("\n".join(pins) + "\n", encoding="utf-8")
        (here / "lock.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
        uv_call(
            "pip", "compile", "--quiet", "--universal", "--python-version", python, "--generate-hashes",
            "--no-header", "--no-annotate", "pins.in", "-o", "lock.txt", cwd=here,
        )  # fmt: skip
        text = (here / "lock.txt").read_text(encoding="utf-8")
    return re.sub(r"\s*\\\n\s*", " ", text).splitlines()


def simplified(lines: list[str], python: str) -> list[str]:
    """Lines whose marker is always true lose it, those whose marker is never true go."""
    from packaging.markers import Marker

    major, minor = python.split(".")[:2]
    machines = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64"))
    places = [
        {"sys_platform": system, "platform_machine": machine, "python_full_version": full,
         "python_version": f"{major}.{minor}", "platform_system": system.capitalize(), "os_name": "posix"}
        for (system, machine), full in product(machines, (f"{major}.{minor}.0", f"{major}.{minor}.99"))
    ]  # fmt: skip
    found = []
    for line in lines:
        pin, marker, hashes = re.fullmatch(r"([^\s;]+)(?: ; (.+?))?((?: --hash=\S+)*)", line).groups()  # type: ignore[union-attr]
        # A pure conjunction: that the Python is the environment's own need not be said.
        marker = (marker or "").removeprefix(f"python_full_version < '{major}.{int(minor) + 1}' and ")
        answers = {Marker(marker).evaluate(place) for place in places} if marker else {True}
        if True in answers:
            found.append(f"{pin} ; {marker}{hashes}" if False in answers else pin + hashes)
    return found


def lock_all(names: list[str], upgrade: bool, folder: Path = Path("envs")) -> int:
    """Lock the environments of these names, or all; returns how many could not be locked."""
    failed = 0
    for path in [folder / f"{n}.yaml" for n in names] or sorted(folder.glob("*.yaml")):
        try:
            target = lock(path, upgrade)
            print(f"{target}: {len(LOCKED.findall(target.read_text(encoding='utf-8')))} packages")
        except DiscernError as error:
            failed += 1
            print(f"error: {path}: {error}", file=sys.stderr)
    return failed
