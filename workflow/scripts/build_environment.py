"""Build one virtual environment from its conda environment file."""

import bootstrap  # noqa: F401
from discern.environments import build
from discern.scripting import parser, run


def main(options):
    """One call."""
    build(options.file, options.lock)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--file", required=True)
    arguments.add_argument("--lock", required=True)
    run(main, arguments)
