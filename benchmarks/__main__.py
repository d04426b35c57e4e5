"""Measure the engines beside their peers: ``python -m benchmarks [SECTION ...] [--write] [--quick]``.

Prints Markdown tables of ratios; ``--write`` puts them, with the machine's description, into
docs/performance.md.
"""

import argparse
import importlib
from pathlib import Path

from benchmarks.side_by_side import machine, replace_section

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

#: Modules of this package with a function ``tables(quick)``, in the order of the page.
SECTIONS = ["svm", "umap", "prepare"]


def main() -> None:
    """Run sections in turn; what is done is printed, and written, before the next begins."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"any of: {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    parser.add_argument("--quick", action="store_true", help="small inputs: minutes, to see that it runs")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"unknown section {sorted(unknown)}; allowed: {SECTIONS}")
    print(machine() + "\n")
    for name in options.sections or SECTIONS:
        tables = importlib.import_module(f"benchmarks.{name}").tables(options.quick)
        print("\n".join(map(str, tables)), flush=True)
        if options.write:
            replace_section(PAGE, name, tables)


if __name__ == "__main__":
    main()
