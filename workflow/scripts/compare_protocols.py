"""Compare the scores of a study by image with those by group, model by model."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.analysis.gap import compare_protocols
from discern.config import CompareSettings
from discern.scripting import parser, run


def main(options):
    """One call."""
    settings = CompareSettings.model_validate_json(options.settings)
    compare_protocols(options.predictions, options.manifests, settings, options.out)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--predictions", nargs="*", default=[], help="one file per cell and protocol")
    arguments.add_argument("--manifests", nargs="*", default=[], help="one file per data set")
    arguments.add_argument("--settings", required=True, help="JSON of the study's compare section")
    arguments.add_argument("--out", required=True)
    run(main, arguments)
