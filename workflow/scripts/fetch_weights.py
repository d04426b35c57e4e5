"""Fetch the weights of one model and write their record."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.encoders.weights import fetch_weights
from discern.model_card import ModelCard
from discern.scripting import parser, run


def main(options):
    """One call."""
    fetch_weights(ModelCard.model_validate_json(options.card), options.downloads, options.out)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--card", required=True, help="the model's card as JSON")
    arguments.add_argument("--downloads", required=True, help="cache of whole archives")
    arguments.add_argument("--out", required=True, help="record; the files are placed beside it")
    run(main, arguments)
