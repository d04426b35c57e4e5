"""Find near duplicates and neighbours across the hold-out in the features of one data set."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.analysis.neighbours import find_neighbours
from discern.scripting import parser, run


def main(options):
    """One call."""
    find_neighbours(options.features, options.manifest, options.audit, options.splits, options.out)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--features", nargs="+", required=True, help="one file per model")
    arguments.add_argument("--manifest", required=True, help="the data set's manifest")
    arguments.add_argument("--audit", required=True, help="the data set's audit, which names hash clusters")
    arguments.add_argument("--splits", required=True, help="whose hold-out is meant")
    arguments.add_argument("--out", required=True, help="the JSON file")
    run(main, arguments)
