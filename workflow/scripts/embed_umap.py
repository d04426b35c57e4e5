"""Map the features of one cell with UMAP, and draw the maps."""

import bootstrap  # noqa: F401  (puts src/ on the path, so that the script runs from any environment)
from discern.analysis.umap.embedding import embed_cell
from discern.config import UmapSettings
from discern.report.figures import umap_figure, umap_grid
from discern.scripting import parser, run


def main(options):
    """Maps first, then the two figures from the table."""
    settings = UmapSettings.model_validate_json(options.settings)
    embed_cell(options.features, options.manifest, settings, options.out, threads=options.threads)
    umap_figure(options.out, options.manifest, options.figure)
    umap_grid(options.out, options.manifest, options.grid)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--features", required=True)
    arguments.add_argument("--manifest", required=True)
    arguments.add_argument("--settings", required=True, help="JSON of the study's umap section")
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--figure", required=True, help="one setting, large")
    arguments.add_argument("--grid", required=True, help="all settings, small")
    run(main, arguments)
