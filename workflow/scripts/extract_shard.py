"""Extract the features of one model on some rows of one data set."""

from functools import partial

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.features.command import arguments, call
from discern.features.shards import extract_shard
from discern.scripting import run


def main(options):
    """One call."""
    call(partial(extract_shard, options.rows), options)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--rows", required=True, help="first-last, not including last; or first-end")
    run(main, parser)
