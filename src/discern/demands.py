"""Memory and run time that a job asks its cluster for, by model and data set; doubled at each attempt.

Upper bounds, not estimates: a request that is too large waits a little longer, one that is too small is
killed and starts again with twice as much. Numbers without a unit in their name are MB (10^6 bytes) and
minutes. They were set with room above the benchmark files of the demonstration, where jobs of the same
kind took: split 191, prepare 167, SVM 206, UMAP 544, RISE 904, extraction 1242, all others 159 MB; and
above docs/performance.md: SVM of 28,160 x 1024 and 29 problems 1.06 GiB and 1.2 minutes, preparation of
28,160 pictures by two processes 458 MiB.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from discern.config import Study
from discern.dataset_card import DatasetCard
from discern.model_card import CPU_BATCH, ModelCard
from discern.registry import Registry

#: Images of a data set whose card does not say how many there are.
UNKNOWN_IMAGES = 10_000
#: Parameters of an encoder whose card says neither that nor the size of its files: a base-sized ViT has 9e7.
UNKNOWN_PARAMETERS = 1e8
#: Minutes that every job may take to start, import its libraries and write: file systems can be slow.
START = 10
#: Floating-point operations per second that are counted on: of one CPU core, of a GPU.
CPU_SPEED, GPU_SPEED = 1e10, 1e13
#: Seconds to read and decode an image, and a volume.
READ_IMAGE, READ_VOLUME = 0.05, 10.0
#: Activations by the bytes of the input: what hardly any network exceeds (discern.features.memory).
ACTIVATIONS = 64


@cache
def has_gpu() -> bool:
    """Whether this machine has a GPU that jobs could wait for."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


@dataclass(frozen=True)
class Demand:
    """What a job asks for at its first attempt."""

    memory: float  # MB
    minutes: float

    def mem_mb(self, attempt: int = 1) -> int:
        """MB at an attempt (1 is the first), in steps of 100."""
        return math.ceil(self.memory / 100) * 100 * 2 ** (attempt - 1)

    def runtime(self, attempt: int = 1) -> int:
        """Minutes at an attempt (1 is the first)."""
        return math.ceil(self.minutes) * 2 ** (attempt - 1)


def images(dataset: DatasetCard) -> int:
    """Number of images that the card expects, or a guess."""
    return dataset.n or UNKNOWN_IMAGES


def parameters(model: ModelCard) -> float:
    """Parameters of the encoder: as the card says, else by the size of its files, else a guess."""
    if model.params:
        return model.params
    if model.weights.kind == "none":
        return 0.0
    size = getattr(model.weights, "bytes", None)
    return size / 4 if size else UNKNOWN_PARAMETERS


def input_values(model: ModelCard) -> int:
    """Numbers in one input of the encoder: height x width x 3, or voxels."""
    return math.prod(model.volume.input_size) if model.volume else 3 * math.prod(model.transform.input_size)


def seconds_per_pass(model: ModelCard) -> float:
    """Of one input on a CPU core, or on the GPU that the card asks for."""
    # Two operations per parameter and patch of 14 x 14 pixels; convolutions mostly do less.
    patches = input_values(model) / (3 * 14 * 14)
    return 2 * parameters(model) * patches / (GPU_SPEED if model.gpu else CPU_SPEED)


def encoder_memory(model: ModelCard) -> float:
    """MB of a process that runs the encoder: libraries, weights while they are loaded, a batch."""
    batch = CPU_BATCH if model.batch_size == "auto" else min(model.batch_size, CPU_BATCH)
    return 1500 + (2.5 * parameters(model) * 4 + ACTIVATIONS * batch * input_values(model) * 4) / 1e6


def _prepare(study: Study, dataset: DatasetCard) -> Demand:
    read = READ_VOLUME if dataset.volumetric else READ_IMAGE
    # Up to 16 processes of 150 MB (volumes: 1 GB), and a row of the manifest for each image.
    process = 1000 if dataset.volumetric else 150
    return Demand(400 + 16 * process + 0.005 * images(dataset), START + 2 * images(dataset) * read / 60)


def _split(study: Study, dataset: DatasetCard) -> Demand:
    return Demand(500 + 0.005 * images(dataset), START + images(dataset) / 20_000)


def _of_all_features(study: Study, dataset: DatasetCard) -> Demand:
    # Neighbours are looked for model by model: the widest features, a copy of them, and blocks of products.
    return Demand(1000 + images(dataset) * 4096 * 4 * 2 / 1e6, START + images(dataset) / 500)


def _compare(study: Study) -> Demand:
    return Demand(1000 + 20 * len(study.models) * len(study.datasets), START + len(study.models) ** 2 / 10)


def _extract(study: Study, model: ModelCard, dataset: DatasetCard, most: float = math.inf) -> Demand:
    n = min(images(dataset), most)
    read = READ_VOLUME if dataset.volumetric else READ_IMAGE
    table = n * model.feature.d * 4 * 2 / 1e6
    memory = encoder_memory(model) + 2 * study.extract.look_ahead_mib + table
    return Demand(memory, START + 2 * n * (read + seconds_per_pass(model)) / 60)


def _extract_shard(study: Study, model: ModelCard, dataset: DatasetCard) -> Demand:
    return _extract(study, model, dataset, study.extract.shard_images or math.inf)


def _merge(study: Study, model: ModelCard, dataset: DatasetCard) -> Demand:
    # A bounded part of one shard at a time; of the manifest and of the keys a few bytes for each image.
    table = images(dataset) * model.feature.d * 4 / 1e6
    return Demand(2000 + 0.0001 * images(dataset), START + 2 * table / 1000)


def _explain(study: Study, model: ModelCard, dataset: DatasetCard) -> Demand:
    masks = study.rise.n_masks if isinstance(study.rise.n_masks, int) else study.rise.max_masks
    per_class = study.rise.correct_per_class + study.rise.wrong_per_class
    explained = min(study.rise.max_images, per_class * len(dataset.classes))
    return Demand(encoder_memory(model), START + 2 * explained * masks * seconds_per_pass(model) / 60)


def _svm(study: Study, model: ModelCard, dataset: DatasetCard) -> Demand:
    n, d, classes = images(dataset), model.feature.d, len(dataset.classes)
    # Measured: 4.3 times the float64 features; 1.2 minutes for n d^2 classes of 8.6e11, five folds, five t.
    work = n * d**2 * classes * study.split.folds / 5 * len(study.svm.t) / 5
    newton = study.svm.estimator == "squared_hinge_ovr" and study.svm.solver == "newton"
    slower = 1 if newton else 10
    return Demand(700 + 6 * n * d * 8 / 1e6, START + slower * 10 * 1.4e-12 * work)


def _umap(study: Study, model: ModelCard, dataset: DatasetCard) -> Demand:
    n, d = images(dataset), model.feature.d
    settings = len(study.umap.n_neighbors) * len(study.umap.min_dist)
    # Features and copies, a block of products, the edges of the graph; a layout takes 5 ms a point.
    memory = 1000 + (4 * n * d * 4 + n * 4096 * 4 + n * max(study.umap.n_neighbors) * 40) / 1e6
    return Demand(memory, START + 2 * settings * n * 0.005 / 60 + n**2 * d * 1e-12)


_BY_DATASET: dict[str, Callable[[Study, DatasetCard], Demand]] = {
    "prepare_dataset": _prepare,
    "split_dataset": _split,
    "match_features": _of_all_features,
    "find_neighbours": _of_all_features,
}
_BY_CELL: dict[str, Callable[[Study, ModelCard, DatasetCard], Demand]] = {
    "extract_features": _extract,
    "extract_shard": _extract_shard,
    "merge_features": _merge,
    "explain_rise": _explain,
    "fit_svm": _svm,
    "embed_umap": _umap,
}


class Demands:
    """What the jobs of a study ask for; each answer is worked out once."""

    def __init__(self, study: Study, registry: Registry):
        self._study, self._registry = study, registry
        self._known: dict[tuple[str, str | None, str | None], Demand] = {}

    def of(self, rule: str, dataset: str | None = None, model: str | None = None) -> Demand:
        """What a job of ``rule`` asks for; rules of a cell need both names, those of a data set one.

        A rule that is not known here gets what those ask for that compare all models.
        """
        key = (rule, dataset, model)
        if key not in self._known:
            self._known[key] = self._worked_out(rule, dataset, model)
        return self._known[key]

    def _worked_out(self, rule: str, dataset: str | None, model: str | None) -> Demand:
        if dataset is not None and model is not None and rule in _BY_CELL:
            cards = self._registry.models[model], self._registry.datasets[dataset]
            return _BY_CELL[rule](self._study, *cards)
        if dataset is not None and rule in _BY_DATASET:
            return _BY_DATASET[rule](self._study, self._registry.datasets[dataset])
        return _compare(self._study)
