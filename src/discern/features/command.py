"""What the commands that extract a data set and a shard of one have in common."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from discern.config import ExtractSettings
from discern.scripting import parser


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The arguments of an extraction."""
    result = parser(description)
    result.add_argument("--spec", required=True, help="what the features depend on, of the model's card")
    result.add_argument("--manifest", required=True)
    result.add_argument("--weights", required=True, help="record of the fetched weights")
    result.add_argument("--out", required=True)
    result.add_argument("--batch-size", type=lambda n: n if n == "auto" else int(n), default=32)
    result.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    result.add_argument("--fingerprint", default="")
    result.add_argument("--settings", default="{}", help="section `extract` of the study, JSON")
    result.add_argument("--resized", default="", help="folder of the pictures that models share")
    return result


def call(extract: Callable[..., None], options: argparse.Namespace) -> None:
    """``extract``, of these options, in the order of ``extract_features``."""
    extract(
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
