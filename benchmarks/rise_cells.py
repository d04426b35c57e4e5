"""Cells of the demonstration, explained image by image: scores of all classes under any masks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Image(NamedTuple):
    """One hold-out image of a cell: its name, the scorer that looks at it, the predicted class."""

    name: str
    scorer: Any
    label: int


def images(
    model: str, dataset: str, which: tuple[int, ...], bank: Callable[[Any], Any], pixels: int | None = None
) -> Iterator[Image]:
    """Images ``which`` of the first fold, in the order of their ids; ``bank`` draws masks for their size.

    ``pixels`` is a side of the input other than the card's. Nothing where the cell was not made.
    """
    from discern import paths
    from discern.analysis.linear import load_classifier
    from discern.analysis.rise.choice import read_fold
    from discern.analysis.rise.scoring import scorer_of
    from discern.contracts import MANIFEST, read_table
    from discern.data.pictures.images import Pictures
    from discern.encoders import preprocess
    from discern.encoders.base import load_encoder
    from discern.encoders.record import read_weights
    from discern.errors import DiscernError
    from discern.model_card import Preprocess
    from discern.registry import Registry

    where = {"study": "demo", "dataset": dataset, "model": model, "protocol": "image"}
    try:
        classifier = load_classifier(paths.CLASSIFIER.format(**where), 0)
        chosen = sorted(read_fold(paths.PREDICTIONS.format(**where), 0), key=lambda c: c.image_id)
        table, about = read_table(MANIFEST, paths.MANIFEST.format(dataset=dataset))
        weights = read_weights(Path(paths.WEIGHTS_FETCHED.format(model=model)))
    except DiscernError:
        return
    rows = {row["image_id"]: row for row in table.to_pylist()}
    spec = Registry(["registry"]).models[model].extraction_spec()
    transform = Preprocess.model_validate(spec["preprocess"] | ({"size": pixels} if pixels else {}))
    scorer = scorer_of(load_encoder(spec, weights, "cpu"), classifier, bank(transform.input_size))
    for index in which:
        picture = Pictures.of(about).open(rows[chosen[index].image_id]["path"])
        scorer.look_at(preprocess.apply(picture, transform))
        yield Image(f"{model}, {dataset} {index}", scorer, chosen[index].predicted)


def both_scores(decisions: np.ndarray, label: int) -> np.ndarray:
    """Decision value and softmax of class ``label``: (N, k) -> (N, 2)."""
    powers = np.exp(decisions - decisions.max(axis=1, keepdims=True))
    return np.stack([decisions[:, label], powers[:, label] / powers.sum(axis=1)], axis=1)
