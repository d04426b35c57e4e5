"""Compare all pairs of models of a study on their common hold-out images."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.analysis.compare import compare_models
from discern.config import CompareSettings
from discern.scripting import parser, run


def main(options):
    """One call."""
    settings = CompareSettings.model_validate_json(options.settings)
    compare_models(options.predictions, options.manifests, settings, options.out)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--predictions", nargs="*", default=[], help="one file per cell")
    arguments.add_argument("--manifests", nargs="*", default=[], help="one file per data set")
    arguments.add_argument("--settings", required=True, help="JSON of the study's compare section")
    arguments.add_argument("--out", required=True)
    run(main, arguments)
