"""Merge the features of a data set that were extracted in shards."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.features.merging import merge_features
from discern.scripting import parser, run


def main(options):
    """One call."""
    merge_features(options.shards, options.rows, options.manifest, options.out)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--shards", required=True, help="folder of the shards")
    arguments.add_argument("--rows", nargs="+", required=True, help="rows of each shard, in order")
    arguments.add_argument("--manifest", required=True)
    arguments.add_argument("--out", required=True)
    run(main, arguments)
