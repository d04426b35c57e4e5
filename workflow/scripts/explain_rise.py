"""Explain the decisions of one cell with RISE: the maps as a table and a sheet of pictures."""

import json

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.analysis.rise.explaining import explain_cell
from discern.config import RiseSettings
from discern.model_card import Preprocess
from discern.report.rise_sheet import draw_cell
from discern.scripting import parser, run


def main(options):
    """Explain, then draw what was written."""
    spec = json.loads(options.spec)
    settings = RiseSettings.model_validate_json(options.settings)
    explain_cell(
        spec,
        options.weights,
        options.manifest,
        options.predictions,
        options.classifier,
        settings,
        options.out,
        options.device,
    )
    transform = Preprocess.model_validate(spec["preprocess"])
    draw_cell(options.out, options.manifest, transform, options.figure, options.title, options.dataset_title)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--spec", required=True, help="what the features depend on, of the model's card")
    arguments.add_argument("--weights", required=True, help="record of the fetched weights")
    arguments.add_argument("--manifest", required=True)
    arguments.add_argument("--predictions", required=True)
    arguments.add_argument("--classifier", required=True)
    arguments.add_argument("--settings", required=True, help="RiseSettings as JSON")
    arguments.add_argument("--out", required=True, help="the table to write")
    arguments.add_argument("--figure", required=True, help="the sheet to write, PNG")
    arguments.add_argument("--device", default="auto")
    arguments.add_argument("--title", required=True, help="the model's title")
    arguments.add_argument("--dataset-title", required=True)
    run(main, arguments)
