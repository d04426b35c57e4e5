"""Which hold-out images are explained: some right and some wrong of every class, the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from discern.config import RiseSettings
from discern.contracts import PREDICTIONS, read_table
from discern.errors import problem


@dataclass(frozen=True)
class Choice:
    """One image to explain. ``decision`` is the stored decision vector, float64 (k,)."""

    image_id: str
    true: int
    predicted: int
    decision: np.ndarray

    @property
    def correct(self) -> bool:
        """Is the predicted class the true one?"""
        return self.true == self.predicted


def read_fold(predictions: Path | str, fold: int) -> list[Choice]:
    """Hold-out predictions of one fold's classifier; DiscernError if the file has no such fold."""
    rows = read_table(PREDICTIONS, predictions)[0].to_pylist()
    if not any(row["fold"] == fold for row in rows):
        folds = sorted({row["fold"] for row in rows})
        raise problem(str(predictions), f"no predictions of fold {fold} (rise.fold)", allowed=folds)
    return [
        Choice(r["image_id"], r["true"], r["predicted"], np.asarray(r["decision"]))
        for r in rows
        if r["fold"] == fold
    ]


def _of_one_class(images: list[Choice], label: int, settings: RiseSettings) -> list[Choice]:
    """Images of one true class in order of importance: right, wrong, right, wrong ..."""
    images = sorted(images, key=lambda image: image.image_id)
    # One order per class, drawn without looking at the predictions: models that are right about the
    # same images show the same images.
    order = np.random.default_rng([settings.seed, label]).permutation(len(images))
    right = [images[i] for i in order if images[i].correct][: settings.correct_per_class]
    wrong = [images[i] for i in order if not images[i].correct][: settings.wrong_per_class]
    ranked = [*enumerate(right), *enumerate(wrong)]
    return [image for _, image in sorted(ranked, key=lambda item: item[0])]


def choose_images(images: list[Choice], settings: RiseSettings) -> list[Choice]:
    """Pick per class as the settings say, at most ``max_images`` in all.

    Where that is too many, classes take turns, so that each has one image before any has two.
    The result depends on the seed and the image ids, not on the order of rows; it is sorted by class,
    right before wrong. Raises DiscernError when nothing is left to explain.
    """
    labels = sorted({image.true for image in images})
    queues = [_of_one_class([i for i in images if i.true == k], k, settings) for k in labels]
    longest = max(len(queue) for queue in queues)
    turns = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    chosen = turns[: settings.max_images]
    if not chosen:
        asked = f"{settings.correct_per_class} right and {settings.wrong_per_class} wrong per class"
        raise problem(
            "rise", f"no hold-out image to explain with {asked}", repair="raise rise.correct_per_class"
        )
    return sorted(chosen, key=lambda image: (image.true, not image.correct, image.image_id))
