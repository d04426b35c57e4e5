"""Render the report of a study as one HTML page."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.registry import Registry
from discern.report.site import render_report
from discern.report.tables import read_study
from discern.scripting import parser, run


def main(options):
    """Result files by the path grammar, from the current directory -> index.html."""
    study = read_study(options.study)
    render_report(study, Registry(study.registry), options.out, partial=options.partial)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--study", required=True, help="the study as JSON, or a file that holds it")
    arguments.add_argument("--out", required=True, help="the HTML file")
    arguments.add_argument("--partial", action="store_true", help="say on top that cells are missing")
    run(main, arguments)
