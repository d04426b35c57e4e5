"""Verify the images of one data set and write its manifest and audit."""

from pathlib import Path

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.data.preparation.manifest import prepare_dataset
from discern.dataset_card import DatasetCard
from discern.scripting import parser, run


def main(options):
    card = DatasetCard.model_validate_json(options.card)
    prepare_dataset(
        card,
        Path(options.record),
        Path(options.manifest),
        Path(options.audit),
        Path(options.made),
        Path(options.inspected),
        options.threads,
    )


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--card", required=True, help="the card as JSON")
    arguments.add_argument("--record", required=True, help="what was fetched (fetched.json)")
    arguments.add_argument("--made", required=True, help="folder of pictures that are made from the files")
    arguments.add_argument("--inspected", required=True, help="folder of what is known of each file")
    arguments.add_argument("--manifest", required=True, help="the table to write")
    arguments.add_argument("--audit", required=True, help="the report of duplicates to write")
    run(main, arguments)
