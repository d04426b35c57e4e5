"""Licences, as the packages' own metadata name them."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from audit.locked import rounds


def metadata(programs, wanted):
    """{(name, version): metadata}, read from wheels by the pip in ``programs``; nothing is installed."""
    found = {}
    for part in rounds(wanted):
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            subprocess.run(
                [programs / "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps",
                 "--use-feature=fast-deps", "--report", report, *(f"{n}=={v}" for n, v in part)],
                check=False, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            if not report.is_file() and len(part) > 1:  # one of them cannot be had: find out which
                half = len(part) // 2
                found |= metadata(programs, part[:half]) | metadata(programs, part[half:])
            elif report.is_file():
                installed = json.loads(report.read_text(encoding="utf-8"))["install"]
                found |= dict(zip(part, _in_order(part, installed), strict=True))
    return found


def _in_order(part, installed):
    by_name = {re.sub("[-_.]+", "-", i["metadata"]["name"]).lower(): i["metadata"] for i in installed}
    return [by_name[re.sub("[-_.]+", "-", name)] for name, _ in part]


def licence(about):
    """The licence of a package's metadata: an SPDX expression, else classifiers, else a short text."""
    if about.get("license_expression"):
        return about["license_expression"]
    named = [c.rpartition(" :: ")[2] for c in about.get("classifier", []) if c.startswith("License :: ")]
    named = [n for n in named if n != "OSI Approved"]
    text = (about.get("license") or "").strip()
    first = text.splitlines()[0].strip() if text else ""
    return " AND ".join(named) or (first if len(first) <= 60 else "") or "not stated"


def allowed(expression, spellings):
    """Whether every part of an expression (one of those joined by OR) is an allowed licence."""
    known = {s.lower() for name, others in spellings.items() for s in (name, *others)}
    return expression.lower() in known or all(
        any(choice.strip(" ()").lower() in known for choice in re.split(r"\s+OR\s+", part))
        for part in re.split(r"\s+AND\s+", expression)
    )
