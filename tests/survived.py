"""What the fault tests report, and the table that the documentation shows of it.

``make robustness`` sets DISCERN_SURVIVED to a file that every such test adds a line to, and ends with
``python -m tests.survived FILE``, which writes docs/robustness.md between its markers.
"""

import json
import os
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "robustness.md"
BEGIN, END = "<!-- survived: begin -->", "<!-- survived: end -->"
COLUMNS = {
    "what": "what",
    "load": "load held",
    "injected": "faults injected",
    "tried": "inputs tried",
    "losses": "losses",
}


def survived(what, load="", injected=0, tried=0, losses=0):
    """Note a test that passed: call it last. ``losses`` are counted, not assumed."""
    if file := os.environ.get("DISCERN_SURVIVED"):
        row = {"what": what, "load": load, "injected": injected, "tried": tried, "losses": losses}
        with open(file, "a", encoding="utf-8") as handle:  # one write of one line: safe for several processes
            handle.write(json.dumps(row) + "\n")


def table(lines):
    """Markdown of all rows; rows of the same name (one per parameter of a test) are added up."""
    rows = {}
    for new in map(json.loads, lines):
        row = rows.setdefault(
            new["what"], {"what": new["what"], "load": new["load"], "injected": 0, "tried": 0, "losses": 0}
        )
        for name in ("injected", "tried", "losses"):
            row[name] += new[name]
    head = ["| " + " | ".join(COLUMNS.values()) + " |", "| --- | --- | ---: | ---: | ---: |"]
    words = [[str(row[c] or ("none" if c == "losses" else "")) for c in COLUMNS] for row in rows.values()]
    return "\n".join(head + [f"| {' | '.join(row)} |" for row in sorted(words)])


def main():
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(lines)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
