"""Measure the engines beside their peers: ``python -m benchmarks [SECTION ...] [--write] [--quick]``.

Prints Markdown tables of ratios; ``--write`` puts them, with the machine's description, into
docs/performance.md. A section that fails is told at the end and costs no other; its old table stays.
"""

import argparse
import importlib
import sys
import time
import traceback

from benchmarks.side_by_side import PAGE, machine, replace_section

#: Modules of this package with a function ``tables(quick)``, in the order of the page.
SECTIONS = ["svm", "umap", "rise", "extraction", "prepare", "workflow"]


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
    failed = [name for name in options.sections or SECTIONS if not _section(name, options)]
    if failed:
        sys.exit(f"sections that failed: {', '.join(failed)}")


def _section(name: str, options: argparse.Namespace) -> bool:
    """Measure, print and write one section; False if it failed."""
    started = time.perf_counter()
    try:
        tables = importlib.import_module(f"benchmarks.{name}").tables(options.quick)
        print("\n".join(map(str, tables)), flush=True)
        if options.write:
            replace_section(name, tables)
    except (Exception, SystemExit):
        traceback.print_exc()
        return False
    print(f"section {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return True


if __name__ == "__main__":
    main()
