"""The packages of all locks."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = re.compile(r"^(?: +- )?([\w.-]+)==([^\s;\\]+)", re.MULTILINE)


def packages(root=ROOT):
    """{(name, version): names of the locks that have it}, sorted; requirements.txt is called `workflow`."""
    files = {"workflow": root / "requirements.txt"}
    files |= {file.stem: file for file in sorted((root / "envs" / "locks").glob("*.yaml"))}
    found = {}
    for lock, file in files.items():
        for name, version in PACKAGE.findall(file.read_text(encoding="utf-8")):
            found.setdefault((name.lower(), version), []).append(lock)
    return dict(sorted(found.items()))


def rounds(wanted):
    """Lists of (name, version) in which no name stands twice, as pip and pip-audit want them."""
    lists = []
    for package in wanted:
        for made in lists:
            if package[0] not in {name for name, _ in made}:
                made.append(package)
                break
        else:
            lists.append([package])
    return lists
