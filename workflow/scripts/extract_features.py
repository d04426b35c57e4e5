"""Extract the features of one model on one data set."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.features.command import arguments, call
from discern.features.extract import extract_features
from discern.scripting import run


def main(options):
    """One call."""
    call(extract_features, options)


if __name__ == "__main__":
    run(main, arguments(__doc__))
