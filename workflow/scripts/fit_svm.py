"""Fit the linear SVMs of one cell."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.analysis.svm.fitting import fit_cell
from discern.config import SvmSettings
from discern.scripting import parser, run


def main(options):
    """One call."""
    fit_cell(
        options.features,
        options.manifest,
        options.splits,
        SvmSettings.model_validate_json(options.settings),
        options.scores,
        options.predictions,
        options.classifier,
        protocol=options.protocol,
        positive_class=options.positive_class,
        threads=options.threads,
    )


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--features", required=True)
    arguments.add_argument("--manifest", required=True)
    arguments.add_argument("--splits", required=True)
    arguments.add_argument("--settings", required=True, help="JSON of the study's svm section")
    arguments.add_argument("--scores", required=True)
    arguments.add_argument("--predictions", required=True)
    arguments.add_argument("--classifier", required=True)
    arguments.add_argument("--protocol", required=True)
    arguments.add_argument("--positive-class", default="", help="name, or empty")
    run(main, arguments)
