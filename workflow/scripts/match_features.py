"""Find the models of a study whose features coincide on one data set."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.analysis.identical import match_features
from discern.scripting import parser, run


def main(options):
    """One call."""
    match_features(options.features, options.out)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--features", nargs="+", required=True, help="one file per model")
    arguments.add_argument("--out", required=True, help="the JSON file")
    run(main, arguments)
