"""Other ways to a RISE map of one image: the authors' procedure as we read it, and packages if they are here.

Every way takes scores of masked images from the same torch function: tensor (B, 3, H, W) -> (B, k).
"""

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

Scores = Callable[[torch.Tensor], torch.Tensor]
Way = Callable[[Scores, torch.Tensor, int, int], object]  # scores, image (1, 3, H, W), masks, class

#: Batch of the authors' code.
PUBLISHED_BATCH = 100


class Published:
    """Petsiuk et al.: masks made once, kept at full size, multiplied all at once; scores in batches."""

    def __init__(self, masks: np.ndarray, p: float):
        self._masks, self._p = torch.from_numpy(masks)[:, None], p

    def __call__(self, scores: Scores, image: torch.Tensor, n: int, label: int) -> torch.Tensor:
        """Maps of all classes."""
        with torch.no_grad():
            stack = self._masks[:n] * image
            found = torch.cat([scores(part) for part in stack.split(PUBLISHED_BATCH)])
            maps = found.T @ self._masks[:n].flatten(1)
        return maps.view(-1, *image.shape[2:]) / n / self._p


def captum_rise(scores: Scores, image: torch.Tensor, n: int, label: int) -> object:
    """The package captum-rise: one mask at a time, one class."""
    rise = importlib.import_module("rise")
    with torch.no_grad():
        return rise.RISE(scores).attribute(image, n_masks=n, initial_mask_shapes=((8, 8),), target=label)


def torchray(scores: Scores, image: torch.Tensor, n: int, label: int) -> object:
    """The package torchray: on the fly, all classes, batches of 32."""
    rise = importlib.import_module("torchray.attribution.rise")
    return rise.rise(scores, image, num_masks=n, num_cells=8, batch_size=32)


def xaitk(scores: Scores, image: torch.Tensor, n: int, label: int) -> object:
    """The package xaitk-saliency: masks at full size by scikit-image, pictures as arrays."""
    stack = importlib.import_module("xaitk_saliency.impls.gen_image_classifier_blackbox_sal.rise")
    base = importlib.import_module("smqtk_classifier").ClassifyImage

    class Network(base):  # type: ignore[misc,valid-type]
        """The scores in the package's terms."""

        def get_labels(self) -> list[int]:
            return list(range(scores(image).shape[1]))

        def classify_images(self, pictures: Any) -> Iterator[dict[int, float]]:
            waiting: list[np.ndarray] = []
            for picture in pictures:
                waiting.append(picture)
                if len(waiting) == 16:
                    yield from self._scored(waiting)
                    waiting = []
            yield from self._scored(waiting) if waiting else ()

        def _scored(self, pictures: list[np.ndarray]) -> Iterator[dict[int, float]]:
            batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
            with torch.no_grad():
                yield from (dict(enumerate(row)) for row in scores(batch).numpy())

        def get_config(self) -> dict[str, Any]:
            return {}

    with contextlib.redirect_stderr(io.StringIO()):
        picture = image[0].permute(1, 2, 0).contiguous().numpy()
        return stack.RISEStack(n=n, s=8, p1=0.5, seed=0).generate(picture, Network())


#: Name -> way and the modules that it needs; all are in peers.txt.
PACKAGES: dict[str, tuple[Way, tuple[str, ...]]] = {
    "captum-rise": (captum_rise, ("rise",)),
    "torchray": (torchray, ("torchray.attribution.rise",)),
    "xaitk-saliency": (
        xaitk,
        ("xaitk_saliency.impls.gen_image_classifier_blackbox_sal.rise", "smqtk_classifier"),
    ),
}


def present() -> dict[str, Way]:
    """The packages that can be imported here."""
    found = {}
    for name, (way, modules) in PACKAGES.items():
        with contextlib.suppress(ImportError):
            for module in modules:
                importlib.import_module(module)
            found[name] = way
    return found
