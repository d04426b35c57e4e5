"""Extract the features of one model on some rows of one data set."""

import json

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.config import ExtractSettings
from discern.features.shards import extract_shard
from discern.scripting import parser, run


def main(options):
    """One call."""
    extract_shard(
        options.rows,
        json.loads(options.spec),
        options.manifest,
        options.weights,
        options.out,
        options.batch_size,
        options.device,
        options.fingerprint,
        ExtractSettings.model_validate_json(options.settings),
        options.resized,
    )


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--spec", required=True, help="what the features depend on, of the model's card")
    arguments.add_argument("--rows", required=True, help="first-last, not including last; or first-end")
    arguments.add_argument("--manifest", required=True)
    arguments.add_argument("--weights", required=True, help="record of the fetched weights")
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--batch-size", type=lambda n: n if n == "auto" else int(n), default=32)
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments.add_argument("--fingerprint", default="")
    arguments.add_argument("--settings", default="{}", help="section `extract` of the study, JSON")
    arguments.add_argument("--resized", default="", help="folder of the pictures that models share")
    run(main, arguments)
