"""Saliency maps of a cell by RISE: which parts of an image hold up the SVM's decision.

Petsiuk, Das, Saenko: "RISE: Randomized Input Sampling for Explanation of Black-box Models" (BMVC 2018).
The paper weighs masks by class probabilities; a linear SVM has none, so the score here is the decision
value of the predicted class. Masks multiply the preprocessed input, as in the authors' code, so what
is masked out takes the model's mean colour.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from discern.analysis.linear import load_classifier
from discern.analysis.rise.choice import Choice, choose_images, read_fold
from discern.analysis.rise.estimators import Estimate
from discern.analysis.rise.sampling import Sampler
from discern.analysis.rise.scoring import Scorer, scorer_of
from discern.analysis.rise.targets import score_target, target_in_frame
from discern.config import RiseSettings
from discern.contracts import MANIFEST, RISE, read_table, write_table
from discern.data.pictures.images import Pictures
from discern.encoders import preprocess
from discern.encoders.base import load_encoder
from discern.encoders.record import read_weights
from discern.errors import DiscernError, problem
from discern.model_card import Preprocess


def area_mean(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink (h, w) to ``size`` by the mean over areas; pixels across an edge count in part."""

    def overlap(pixels: int, parts: int) -> np.ndarray:
        edges = np.arange(parts + 1)[:, None] * pixels / parts
        covered = np.clip(edges - np.arange(pixels), 0, 1)
        return (covered[1:] - covered[:-1]) * parts / pixels

    return overlap(picture.shape[0], size[0]) @ picture @ overlap(picture.shape[1], size[1]).T


def stored_size(longest: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a stored map: ``longest`` at most, in the proportions of the input ``size``."""
    longest = min(longest, max(size))
    height, width = (max(1, round(longest * pixels / max(size))) for pixels in size)
    return height, width


def _as_stored(saliency: np.ndarray, size: tuple[int, int], image_id: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = area_mean(saliency, size).astype(np.float16)
    if not np.isfinite(stored).all():
        peak = np.abs(saliency).max()
        raise DiscernError(
            f"{image_id}: the saliency map cannot be stored as float16 (largest value {peak:.3g}): "
            "the decision values of this classifier are not finite or beyond 65504"
        )
    return stored.ravel()


@dataclass(frozen=True)
class Explainer:
    """What is shared by all images of a cell."""

    scorer: Scorer
    sampler: Sampler
    preprocess: Preprocess
    pictures: Pictures
    stored_size: tuple[int, int]  # height, width
    inexact: bool = False  # does the network compute otherwise than in plain float32

    def explain(self, choice: Choice, row: dict[str, Any]) -> dict[str, Any]:
        """One row of the RISE table. ``row`` is the image's manifest row."""
        picture = self.pictures.open(row["path"])
        self.scorer.look_at(preprocess.apply(picture, self.preprocess))
        decision = self.scorer.unmasked()
        self._same_as_predicted(choice, decision)
        found, n_masks = self.sampler.estimate(self.scorer, choice.predicted)
        target = target_in_frame(row, self.pictures, picture.size, self.preprocess)
        score = score_target(found.maps[0], target) if target is not None else None
        return {
            "image_id": choice.image_id,
            "true": choice.true,
            "predicted": choice.predicted,
            "correct": choice.correct,
            "decision": float(decision[choice.predicted]),
            **self._stored(found, choice.image_id),
            "standard_error": float(found.noise[0]),
            "n_masks": n_masks,
            "hottest_in_target": score and score.hottest_in_target,
            "target_share": score and score.target_share,
            "target_area": score and score.target_area,
            "deviation": self.scorer.deviation() if self.inexact else None,  # no column
        }

    def _stored(self, found: Estimate, image_id: str) -> dict[str, np.ndarray]:
        return {
            "saliency": _as_stored(found.maps[0], self.stored_size, image_id),
            "saliency_error": _as_stored(found.errors[0], self.stored_size, image_id),
        }

    def _same_as_predicted(self, choice: Choice, decision: np.ndarray) -> None:
        """The encoder here must be the one whose features were classified: wrong files look plausible."""
        # 5 % leaves room for another device; votes of one-against-one jump by one at a near tie.
        votes = 1.0 if self.scorer.folded.estimator == "hinge_ovo" else 0.0
        allowed = 0.05 * max(1.0, float(np.abs(choice.decision).max())) + votes
        if not np.abs(decision - choice.decision).max() <= allowed:
            raise problem(
                choice.image_id,
                f"decision values {np.round(decision, 3)} differ from the stored "
                f"{np.round(choice.decision, 3)}: features, classifier and weights do not belong together",
                repair="make the features and the classifier of this cell again",
            )


def _manifest_rows(manifest: Path | str, chosen: list[Choice]) -> tuple[dict[str, Any], dict[str, Any]]:
    table, metadata = read_table(MANIFEST, manifest)
    rows = {row["image_id"]: row for row in table.to_pylist()}
    if missing := [c.image_id for c in chosen if c.image_id not in rows]:
        raise problem(
            str(manifest),
            f"{len(missing)} predicted images are not in the manifest, the first is '{missing[0]}'",
            repair="the predictions are of another version of the data set: fit the SVM again",
        )
    return rows, metadata


def explain_cell(
    spec: dict[str, Any],
    weights: Path | str,
    manifest: Path | str,
    predictions: Path | str,
    classifier: Path | str,
    settings: RiseSettings,
    out: Path | str,
    device: str = "auto",
) -> None:
    """Write the RISE table of one model on one data set.

    ``spec`` is ``ModelCard.extraction_spec()``, ``weights`` the record of the fetched files. Images are
    hold-out images of fold ``settings.fold``, explained with that fold's classifier. Maps and their
    standard errors are stored with ``saliency_size`` pixels on the longer side, or at the input's size where
    that is smaller. Where the network does not compute in plain float32, the metadata say by how much
    the decision values of these images, and of some masked ones, then differ (``precision_deviation``).
    Raises DiscernError for a fold or images that the files do not have, and for files that do not belong
    together.
    """
    chosen = choose_images(read_fold(predictions, settings.fold), settings)
    rows, about = _manifest_rows(manifest, chosen)
    transform = Preprocess.model_validate(spec["preprocess"])
    size = transform.input_size
    sampler = Sampler(settings, size)
    scorer = scorer_of(
        load_encoder(spec, read_weights(weights), device),
        load_classifier(classifier, settings.fold),
        sampler.bank,
        settings.batch_size,
        settings.precision,
    )
    stored = stored_size(settings.saliency_size, size)
    precision = spec.get("precision", "float32")
    if precision == "float32" and scorer.precision != "card":
        precision = scorer.precision
    inexact = precision != "float32" or spec.get("compile", False)
    explainer = Explainer(scorer, sampler, transform, Pictures.of(about), stored, inexact)
    progress = tqdm(chosen, desc="explain", unit="image", file=sys.stderr, mininterval=10)
    explained = [explainer.explain(choice, rows[choice.image_id]) for choice in progress]
    deviation = None
    if inexact:
        deviation = {
            name: max(row["deviation"][name] for row in explained) for name in ("unmasked", "masked")
        }
    columns = {name: [row[name] for row in explained] for name in RISE.columns}
    metadata = {
        "model": spec["name"],
        "dataset": about["dataset"],
        "protocol": settings.protocol,
        "fold": settings.fold,
        "n_masks": settings.n_masks,
        "max_masks": settings.max_masks,
        "standard_error": settings.standard_error,
        "grid": settings.grid,
        "p": settings.p,
        "estimator": settings.estimator,
        "seed": settings.seed,
        "precision": precision,
        "precision_deviation": deviation,
        "saliency_size": list(stored),
        "input_size": list(size),
        "images": len(chosen),
    }
    write_table(RISE, out, columns, metadata)
