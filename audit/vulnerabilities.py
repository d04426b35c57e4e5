"""Known vulnerabilities: from the services that pip-audit asks, or from a copy of PyPA's advisory database.

pip-audit itself prints "No known vulnerabilities found" when its service knows none of the packages, as
behind a mirror that has no such service. So its answers are counted: what was not looked up is told apart
from what was looked up and found clean.
"""

import datetime
import json
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from packaging.version import InvalidVersion, Version

from audit.locked import rounds

#: A copy whose newest record is older than this is told, and not taken for a check.
PRESENT = datetime.timedelta(days=30)
SERVICES = {"pypi": "PyPI's JSON API", "osv": "OSV"}


@dataclass
class Answer:
    """What one database said: packages looked up, and {package: ids of its vulnerabilities}."""

    database: str
    checked: set = field(default_factory=set)
    found: dict = field(default_factory=dict)
    silence: str = ""  # why it said nothing
    old: bool = False  # its newest record is: nothing found means little


def ask(programs, wanted, advisories=None):
    """Answers of the first service that knows the packages, and of the local copy if there is one."""
    answers = []
    for service in SERVICES:
        answers.append(from_service(programs, service, wanted))
        if answers[-1].checked:
            break
    return answers + ([from_copy(advisories, wanted)] if advisories else [])


def from_service(programs, service, wanted):
    """Run pip-audit of the folder ``programs`` on (name, version) pairs."""
    answer = Answer(SERVICES[service])
    for part in rounds(wanted):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
            listed.write("".join(f"{name}=={version}\n" for name, version in part))
            listed.flush()
            done = subprocess.run(
                [programs / "pip-audit", "-s", service, "-r", listed.name, "--no-deps", "--disable-pip",
                 "--format", "json", "--progress-spinner", "off"],
                text=True, capture_output=True, check=False,
            )  # fmt: skip
        if not done.stdout.strip():
            answer.silence = "not to be reached"
            return answer
        read_report(json.loads(done.stdout), answer)
    if not answer.checked:
        answer.silence = "knows none of these packages: is the index a mirror?"
    return answer


def read_report(report, answer):
    """Add pip-audit's JSON report: entries that it skipped were not checked."""
    for entry in report["dependencies"]:
        if "skip_reason" not in entry:
            package = entry["name"].lower(), entry["version"]
            answer.checked.add(package)
            if ids := sorted(vulnerability["id"] for vulnerability in entry["vulns"]):
                answer.found[package] = ids


def from_copy(folder, wanted):
    """Look the packages up in a checkout of github.com/pypa/advisory-database (records in OSV's format)."""
    files = list(Path(folder).glob("vulns/*/*.yaml"))
    if not files:
        return Answer("PyPA advisory database", silence=f"no records in {folder}")
    dates = [
        d for f in files for d in re.findall(r"^modified: ['\"]?([\d-]{10})", f.read_text(), re.MULTILINE)
    ]
    answer = Answer(f"copy of PyPA's advisory database, newest record of {max(dates)}", set(wanted))
    answer.old = datetime.date.fromisoformat(max(dates)) < datetime.date.today() - PRESENT
    for name, version in wanted:
        for file in sorted(Path(folder).glob(f"vulns/{re.sub('[-_.]+', '-', name)}/*.yaml")):
            record = yaml.safe_load(file.read_text(encoding="utf-8"))
            if "withdrawn" not in record and any(affects(a, version) for a in record["affected"]):
                answer.found.setdefault((name, version), []).append(record["id"])
    return answer


def affects(affected, version):
    """Whether a version is listed, or lies in a range of versions (introduced <= version < fixed)."""
    if version in affected.get("versions", []):
        return True
    for part in affected.get("ranges", []):
        if part["type"] != "ECOSYSTEM":
            continue
        inside = False
        for event in part["events"]:
            (kind, bound), = event.items()  # fmt: skip
            if kind == "introduced":
                inside = inside or _reaches(version, bound)
            elif kind == "fixed":
                inside = inside and not _reaches(version, bound)
            elif kind == "last_affected":
                inside = inside and (version == bound or not _reaches(version, bound))
        if inside:
            return True
    return False


def _reaches(version, bound):
    try:
        return bound == "0" or Version(version) >= Version(bound)
    except InvalidVersion:
        return True  # better named once too often
