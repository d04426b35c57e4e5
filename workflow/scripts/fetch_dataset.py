"""Fetch one data set, or cut it from package files, and record what was fetched."""

from pathlib import Path

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.data.originals.fetch import fetch_dataset
from discern.dataset_card import DatasetCard
from discern.scripting import parser, run


def main(options):
    """One call."""
    card = DatasetCard.model_validate_json(options.card)
    fetch_dataset(card, Path(options.place), Path(options.downloads), Path(options.out))


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--card", required=True, help="the card as JSON")
    arguments.add_argument("--place", required=True, help="folder or archive of the data set")
    arguments.add_argument("--downloads", required=True, help="cache of verified downloads")
    arguments.add_argument("--out", required=True, help="the record to write")
    run(main, arguments)
