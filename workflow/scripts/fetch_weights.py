"""Fetch the weights of one model and write their record; --text: the files of its tokenizer as well."""

from pathlib import Path

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.encoders.weights import fetch_tokenizer, fetch_weights
from discern.model_card import ModelCard
from discern.scripting import parser, run


def main(options):
    """One call, two with --text."""
    card = ModelCard.model_validate_json(options.card)
    if options.text:
        fetch_tokenizer(card, options.downloads, Path(options.out).parent)
    fetch_weights(card, options.downloads, options.out)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--card", required=True, help="the model's card as JSON")
    arguments.add_argument("--downloads", required=True, help="cache of whole archives")
    arguments.add_argument("--out", required=True, help="record; the files are placed beside it")
    arguments.add_argument(
        "--text", action="store_true", help="for zero-shot work: the tokenizer's files too"
    )
    run(main, arguments)
