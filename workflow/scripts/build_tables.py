"""Build the tables of a study from whatever score files exist."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.registry import Registry
from discern.report.tables import build_tables, read_study
from discern.scripting import parser, run


def main(options):
    """Score files by the path grammar, from the current directory -> tables."""
    study = read_study(options.study)
    build_tables(study, Registry(study.registry), options.out, partial=options.partial)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--study", required=True, help="the study as JSON, or a file that holds it")
    arguments.add_argument("--out", required=True, help="folder of the tables")
    arguments.add_argument("--partial", action="store_true", help="say in the footers that cells are missing")
    run(main, arguments)
