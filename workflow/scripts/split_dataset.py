"""Split one manifest into a hold-out and folds."""

from pathlib import Path

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.config import SplitSettings
from discern.data.splits import split_dataset
from discern.scripting import parser, run


def main(options):
    settings = SplitSettings.model_validate_json(options.settings)
    split_dataset(Path(options.manifest), options.protocol, settings, Path(options.out))


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--manifest", required=True, help="the data set's manifest")
    arguments.add_argument("--protocol", required=True, choices=["image", "group"])
    arguments.add_argument("--settings", required=True, help="split settings as JSON")
    arguments.add_argument("--out", required=True, help="the table to write")
    run(main, arguments)
