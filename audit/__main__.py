"""``python -m audit [--advisories FOLDER]``: check, print what is wrong, write docs/environments.md.

Status 1: a vulnerability or a licence that policy.yaml does not explain. Status 2: nothing of that kind, but
some packages could not be checked. Status 0: all checked.
"""

import argparse
import datetime
import fnmatch
import os
import sys
from collections import Counter
from pathlib import Path

import yaml

from audit import licences, vulnerabilities
from audit.locked import ROOT, packages

PAGE = ROOT / "docs" / "environments.md"
BEGIN, END = "<!-- audit: begin -->", "<!-- audit: end -->"
POLICY = yaml.safe_load((Path(__file__).parent / "policy.yaml").read_text(encoding="utf-8"))


def main():
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m audit", description=__doc__)
    copy = os.environ.get("ADVISORIES") or None
    parser.add_argument(
        "--advisories", default=copy, metavar="FOLDER", help="checkout of pypa/advisory-database"
    )
    parser.add_argument("--programs", default=ROOT / ".venv-audit" / "bin", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    wanted = packages()
    lines, bad, unchecked = judge(
        wanted,
        vulnerabilities.ask(options.programs, wanted, options.advisories),
        licences.metadata(options.programs, wanted),
    )
    write(lines)
    print("\n".join([*bad, *unchecked]) or "all checked, nothing found", file=sys.stderr)
    return 1 if bad else 2 if unchecked else 0


def judge(wanted, answers, metadata, policy=POLICY):
    """Lines of the page, findings without an explanation, and what could not be checked."""
    found, bad, unchecked = {}, [], []
    for answer in answers:
        for package, ids in answer.found.items():
            found[package] = sorted({*found.get(package, []), *ids})
    checked = set().union(*(a.checked for a in answers if not a.old))
    lines = [f"Made on {datetime.date.today()} from {len(wanted)} packages in the locks.", ""]
    for answer in answers:
        said = answer.silence or f"{len(answer.checked)} looked up, {len(answer.found)} vulnerable"
        lines.append(f"- {answer.database}: {said}")
    if missing := set(wanted) - checked:
        unchecked.append(
            f"vulnerabilities of {len(missing)} of {len(wanted)} packages were NOT checked by present records"
        )
        lines.append(f"- **{unchecked[-1]}**")
    if found:
        lines += [
            "",
            "| package | locks | known vulnerabilities | why it stays |",
            "| --- | --- | --- | --- |",
        ]
    for (name, version), ids in sorted(found.items()):
        locks = set(wanted[name, version])
        reasons = [r["reason"] for r in policy["vulnerable"] if locks <= set(r["locks"])]
        row = (f"{name} {version}", ", ".join(sorted(locks)), ", ".join(ids), " ".join(reasons))
        lines.append(f"| {' | '.join(row)} |")
        if not reasons:
            bad.append(f"vulnerable: {name} {version} ({', '.join(sorted(locks))}): {', '.join(ids)}")
    return lines + licence_lines(wanted, metadata, policy, bad, unchecked), bad, unchecked


def licence_lines(wanted, metadata, policy, bad, unchecked):
    """The licences by number of packages, then those that are not on the list, with their reasons."""
    said = {package: licences.licence(about) for package, about in metadata.items()}
    counts, others = Counter(), {}
    for (name, version), expression in sorted(said.items()):
        if licences.allowed(expression, policy["allowed"]):
            counts[canonical(expression, policy["allowed"])] += 1
            continue
        reasons = [r["reason"] for r in policy["exceptions"] if fnmatch_any(name, r["packages"])][:1]
        others.setdefault((expression, *reasons), []).append(f"{name} {version}")
        if not reasons:
            bad.append(f"licence: {name} {version}: {expression}")
    if missing := sorted(set(wanted) - set(said)):
        unchecked.append(f"licences NOT read: {', '.join('=='.join(p) for p in missing)}")
    lines = ["", f"Licences of {len(said)} packages were read from their metadata. Allowed:", ""]
    lines += [", ".join(f"{licence} ({n})" for licence, n in counts.most_common()) + "."]
    lines += [f"\n**{unchecked[-1]}**"] if missing else []
    rows = [f"| {', '.join(names)} | {words[0]} | {''.join(words[1:])} |" for words, names in others.items()]
    return [*lines, "", "| not on the list | licence | why it may be used |", "| --- | --- | --- |", *rows]


def fnmatch_any(name, patterns):
    """Whether a name fits one of the patterns, as in `nvidia-*`."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def canonical(expression, spellings):
    """An expression by its licences' own names."""
    names = {s.lower(): name for name, others in spellings.items() for s in (name, *others)}
    if expression.lower() in names:
        return names[expression.lower()]
    return " AND ".join(
        " OR ".join(names.get(choice.strip(" ()").lower(), choice) for choice in part.split(" OR "))
        for part in expression.split(" AND ")
    )


def write(lines, page=PAGE):
    """Replace what stands between the page's markers."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
