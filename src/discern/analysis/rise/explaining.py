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

from discern.analysis.linear import Classifier, load_classifier
from discern.analysis.rise.choice import Choice, choose_images, read_fold
from discern.analysis.rise.masks import MaskBank, draw_masks
from discern.analysis.rise.targets import score_target, target_in_frame
from discern.config import RiseSettings
from discern.contracts import MANIFEST, RISE, read_table, write_table
from discern.data.pictures.images import Pictures
from discern.encoders import preprocess
from discern.encoders.base import Encoder, load_encoder
from discern.encoders.record import read_weights
from discern.errors import DiscernError, problem
from discern.features.extract import Batches
from discern.model_card import Preprocess


def saliency_map(
    encoder: Encoder | Batches,
    classifier: Classifier,
    image: np.ndarray,
    label: int,
    masks: MaskBank,
    batch_size: int = 16,
    centred: bool = False,
) -> np.ndarray:
    """Map of one image for class ``label``: sum_i decision_i * mask_i / (N * p), float64 (H, W).

    ``image`` is the preprocessed input, float32 (C, H, W) with H, W = ``masks.size``. Units are those
    of the decision value. ``centred`` subtracts what the mean decision adds by chance: a pixel that the
    drawn masks happen to show more often is hotter for that reason alone, in proportion to the mean; the
    expected mask is p everywhere, so that part is known. Same expectation, fewer masks for
    equal error where decisions are far from zero.

    Memory: one batch of masks and one of masked images, whatever N is.
    """
    height, width = image.shape[1:]
    total = np.zeros(height * width)
    shown = np.zeros(height * width)
    score = 0.0
    mask_batch = np.empty((batch_size, height, width), np.float32)
    image_batch = np.empty((batch_size, *image.shape), np.float32)
    for start in range(0, len(masks), batch_size):
        n = min(batch_size, len(masks) - start)
        drawn, masked = mask_batch[:n], image_batch[:n]
        masks.fill(start, drawn)
        np.multiply(image[None], drawn[:, None], out=masked)
        decision = classifier.decision(encoder.encode(masked))[:, label]
        total += decision.astype(np.float32) @ drawn.reshape(n, -1)
        shown += drawn.reshape(n, -1).sum(axis=0)
        score += decision.sum()
    expected = len(masks) * masks.p
    if centred:
        total -= score / len(masks) * (shown - expected)
    return (total / expected).reshape(height, width)


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

    encoder: Batches
    classifier: Classifier
    preprocess: Preprocess
    masks: MaskBank
    settings: RiseSettings
    pictures: Pictures
    stored_size: tuple[int, int]  # height, width

    def explain(self, choice: Choice, row: dict[str, Any]) -> dict[str, Any]:
        """One row of the RISE table. ``row`` is the image's manifest row."""
        picture = self.pictures.open(row["path"])
        pixels = preprocess.apply(picture, self.preprocess)
        decision = self.classifier.decision(self.encoder.encode(pixels[None]))[0]
        self._same_as_predicted(choice, decision)
        saliency = saliency_map(
            self.encoder,
            self.classifier,
            pixels,
            choice.predicted,
            self.masks,
            self.settings.batch_size,
            self.settings.estimator == "centred",
        )
        target = target_in_frame(row, self.pictures, picture.size, self.preprocess)
        score = score_target(saliency, target) if target is not None else None
        return {
            "image_id": choice.image_id,
            "true": choice.true,
            "predicted": choice.predicted,
            "correct": choice.correct,
            "decision": float(decision[choice.predicted]),
            "saliency": _as_stored(saliency, self.stored_size, choice.image_id),
            "hottest_in_target": score and score.hottest_in_target,
            "target_share": score and score.target_share,
            "target_area": score and score.target_area,
        }

    def _same_as_predicted(self, choice: Choice, decision: np.ndarray) -> None:
        """The encoder here must be the one whose features were classified: wrong files look plausible."""
        # 5 % leaves room for another device; votes of one-against-one jump by one at a near tie.
        votes = 1.0 if self.classifier.estimator == "hinge_ovo" else 0.0
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
    hold-out images of fold ``settings.fold``, explained with that fold's classifier. Maps are stored
    with ``saliency_size`` pixels on the longer side, or at the input's size where that is smaller.
    Raises DiscernError for a fold or images that the files do not have, and for files that do not
    belong together.
    """
    chosen = choose_images(read_fold(predictions, settings.fold), settings)
    rows, about = _manifest_rows(manifest, chosen)
    transform = Preprocess.model_validate(spec["preprocess"])
    size = transform.input_size
    explainer = Explainer(
        encoder=Batches(load_encoder(spec, read_weights(weights), device), settings.batch_size),
        classifier=load_classifier(classifier, settings.fold),
        preprocess=transform,
        masks=draw_masks(settings.n_masks, settings.grid, settings.p, size, settings.seed),
        settings=settings,
        pictures=Pictures.of(about),
        stored_size=stored_size(settings.saliency_size, size),
    )
    progress = tqdm(chosen, desc="explain", unit="image", file=sys.stderr, mininterval=10)
    explained = [explainer.explain(choice, rows[choice.image_id]) for choice in progress]
    columns = {name: [row[name] for row in explained] for name in RISE.columns}
    metadata = {
        "model": spec["name"],
        "dataset": about["dataset"],
        "protocol": settings.protocol,
        "fold": settings.fold,
        "n_masks": settings.n_masks,
        "grid": settings.grid,
        "p": settings.p,
        "estimator": settings.estimator,
        "seed": settings.seed,
        "saliency_size": list(explainer.stored_size),
        "input_size": list(size),
        "images": len(chosen),
    }
    write_table(RISE, out, columns, metadata)
