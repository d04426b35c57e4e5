"""The study: which models and data sets, by which protocol. Defaults are the paper's.

Takeda & Sakai (2026), section 'Experimental setup'; where the paper is silent the field says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from discern.dataset_card import DatasetName
from discern.errors import DiscernError, did_you_mean, problem
from discern.model_card import ModelCard, ModelName
from discern.registry import DatasetShelf, ModelShelf, Registry
from discern.sources import HubFile, Name
from discern.validation import Strict, load_yaml, parse

Positive = Annotated[float, Field(gt=0)]
Protocol = Literal["image", "group"]
Selection = Literal["all"] | list[DatasetName]
RiseEstimator = Literal["plain", "centred", "control_variate", "antithetic"]
RisePrecision = Literal["card", "bfloat16", "float16"]


class SplitSettings(Strict):
    """Hold-out and cross-validation, made once per data set and shared by all models."""

    protocols: list[Protocol] = Field(default=["image"], min_length=1)
    holdout: float = Field(default=0.2, gt=0, lt=1)
    folds: int = Field(default=5, ge=2)
    duplicates: Literal["ignore", "together"] = "ignore"  # together: near-duplicates on one side of a split
    seed: int = 0  # the paper states none


class ExtractSettings(Strict):
    """How features are extracted; nothing here changes a number.

    A change makes nothing again, but of ``shard_images`` the features of data sets that have more images.
    """

    look_ahead_mib: int = Field(default=256, gt=0)  # pictures waiting for the encoder, per job
    picture_cache_gib: float = Field(default=0, ge=0)  # resized pictures kept for other models; 0: none
    #: Images of a job; data sets whose cards say more are extracted by several. Null: never.
    shard_images: Annotated[int, Field(gt=0)] | None = 102_400


class SvmSettings(Strict):
    """Linear SVM on standardised features, C = t * d / N."""

    estimator: Literal["squared_hinge_ovr", "hinge_ovo"] = "squared_hinge_ovr"
    solver: Literal["newton", "liblinear"] = "newton"  # of squared_hinge_ovr; both solve LinearSVC's problem
    t: list[Positive] = Field(default=[1, 10, 100, 1000, 10000], min_length=1)
    selection: Literal["macro_f1", "accuracy"] = "macro_f1"
    tolerance: Positive = 1e-9  # relative duality gap at which a fit ends
    max_iter: int = Field(default=200, gt=0)  # Newton steps; real features need some 10 to 30
    seed: int = 0

    @field_validator("t")
    @classmethod
    def _ascending(cls, t: list[float]) -> list[float]:
        if sorted(set(t)) != t:
            raise ValueError("must ascend without repetition, the smallest wins ties")
        return t


class UmapSettings(Strict):
    """Grid of feature maps. The paper varies n_neighbors and min_dist without printing the grid."""

    datasets: Selection = "all"
    n_neighbors: list[Annotated[int, Field(ge=2)]] = Field(default=[5, 15, 30, 50, 100], min_length=1)
    min_dist: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=[0.0, 0.1, 0.25, 0.5, 0.8], min_length=1
    )
    metric: Literal["cosine"] = "cosine"
    engine: Literal["umap-learn", "fused"] = "umap-learn"
    exact_neighbors_up_to: int = Field(default=50_000, ge=0)  # images; above, pynndescent
    seed: int = 0
    quality_neighbors: int = Field(default=15, ge=1)
    quality_sample: int = Field(default=2000, ge=1)  # points judged; all if the set has no more


class RiseSettings(Strict):
    """Petsiuk et al. 2018: N random masks on a grid x grid lattice, each cell kept with probability p."""

    datasets: Selection = "all"
    n_masks: Annotated[int, Field(ge=4)] | Literal["auto"] = 4096  # auto: until standard_error is reached
    max_masks: int = Field(default=4096, ge=4)  # of auto
    standard_error: float = Field(default=0.2, gt=0, lt=1)  # of auto: share of a map's spread that is noise
    grid: int = Field(default=8, gt=0)
    p: float = Field(default=0.5, gt=0, lt=1)
    estimator: RiseEstimator = "plain"
    precision: RisePrecision = "card"  # of torch networks whose card says float32
    correct_per_class: int = Field(default=1, ge=0)
    wrong_per_class: int = Field(default=1, ge=0)
    max_images: int = Field(default=40, gt=0)  # per cell, over all classes
    protocol: Protocol = "image"
    fold: int = Field(default=0, ge=0)  # which fold's classifier is explained
    saliency_size: int = Field(default=56, gt=0)
    batch_size: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"  # CPU: by the network; GPU: 128
    seed: int = 0

    @model_validator(mode="after")
    def _pairs(self) -> RiseSettings:
        if self.estimator == "antithetic":
            if self.p != 0.5:
                raise ValueError(
                    f"estimator 'antithetic' is for p = 0.5, where complements are masks, not {self.p:g}"
                )
            field = "max_masks" if self.n_masks == "auto" else "n_masks"
            if getattr(self, field) % 2:
                raise ValueError(f"estimator 'antithetic' needs an even {field}, not {getattr(self, field)}")
        return self


class CompareSettings(Strict):
    """Paired bootstrap over the hold-out images."""

    n_bootstrap: int = Field(default=2000, gt=0)
    seed: int = 0


class Study(Strict):
    """Everything that a user chooses."""

    study: Name
    models: list[ModelName] = Field(min_length=1)  # model, model@feature or model@variant
    datasets: list[DatasetName] = Field(min_length=1)  # data_set or data_set@reading
    registry: list[str] = ["registry"]
    data_root: str = "resources/datasets"  # holds a folder or an archive for each data set
    data: dict[DatasetName, str] = {}  # data set -> its folder or archive, where it lies elsewhere
    allow_remote_code: bool = False  # lets models run code that was published with their weights
    reference: str | None = None  # published tables to compare with: registry/reference/<name>.csv
    note: str = ""  # printed on top of the report
    split: SplitSettings = SplitSettings()
    extract: ExtractSettings = ExtractSettings()
    svm: SvmSettings = SvmSettings()
    umap: UmapSettings = UmapSettings()
    rise: RiseSettings = RiseSettings()
    compare: CompareSettings = CompareSettings()

    @field_validator("study")
    @classmethod
    def _not_shared(cls, study: str) -> str:
        if study == "shared":
            raise ValueError("'shared' is the folder that all studies use; choose another name")
        return study

    @field_validator("models", "datasets")
    @classmethod
    def _no_duplicates(cls, names: list[str]) -> list[str]:
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"named twice: {', '.join(twice)}")
        return names

    def place(self, dataset: str) -> str:
        """Folder or archive of a data set: as chosen under ``data``, or a folder of ``data_root``."""
        return self.data.get(dataset, str(Path(self.data_root) / dataset))

    def selected(self, selection: Selection) -> list[str]:
        """Data sets of this study that a stage runs on."""
        return self.datasets if selection == "all" else [d for d in self.datasets if d in selection]


def load_study(content: dict[str, Any], files: Iterable[Path | str] = ("config.yaml",)) -> Study:
    """Check a merged configuration; ``files`` (later ones win) serve to name the file in messages."""
    sources = [(str(f), load_yaml(f) if Path(f).is_file() else {}) for f in files]

    def where(field: str) -> str:
        top = field.split(".")[0].split("[")[0]
        return next((name for name, body in reversed(sources) if top in body), sources[-1][0])

    study = parse(Study, content, where)
    registry = Registry(study.registry)
    _check_names(study, registry, where)
    return study


def _check_names(study: Study, registry: Registry, where: Callable[[str], str]) -> None:
    """Everything that needs more than one field: names in the registry, selections, protocols."""
    mistakes = [
        *_unknown([m.split("@")[0] for m in study.models], registry.models.names(), "model", "models", where),
        *_unknown(
            [d.split("@")[0] for d in study.datasets],
            registry.datasets.names(),
            "data set",
            "datasets",
            where,
        ),
        *_unknown(
            [d.split("@")[0] for d in study.data], registry.datasets.names(), "data set", "data", where
        ),
        *_unknown_parts("models", study.models, registry.models, where),
        *_unknown_parts("datasets", study.datasets, registry.datasets, where),
    ]
    for stage, selection in (("umap", study.umap.datasets), ("rise", study.rise.datasets)):
        chosen = [] if selection == "all" else selection
        mistakes += _unknown(chosen, study.datasets, "data set of this study", f"{stage}.datasets", where)
    if study.rise.protocol not in study.split.protocols:
        mistakes.append(
            f"{where('rise')}: rise.protocol: '{study.rise.protocol}' is not among split.protocols"
            f"\n  allowed: {', '.join(study.split.protocols)}"
        )
    if study.rise.fold >= study.split.folds:
        mistakes.append(
            f"{where('rise')}: rise.fold: found {study.rise.fold}, allowed 0 to {study.split.folds - 1}"
        )
    if mistakes:
        raise DiscernError("\n".join(mistakes))
    if study.reference is not None:
        registry.reference_file(study.reference)


def check_remote_code(card: ModelCard, study: Study, registry: Registry) -> None:
    """DiscernError if the model runs code from its repository and the study does not allow it."""
    if not card.remote_code or study.allow_remote_code:
        return
    source = card.weights
    origin = f"{source.repo} at revision {source.revision}" if isinstance(source, HubFile) else "its weights"
    raise problem(
        str(registry.models.file(card.name)),
        f"model '{card.name}' runs code published with its weights ({origin}), which study '{study.study}' "
        "does not allow",
        repair="read that code; if you trust it, set `allow_remote_code: true` in the study; "
        "if not, leave the model out",
    )


def _unknown(
    names: list[str], known: list[str], kind: str, field: str, where: Callable[[str], str]
) -> list[str]:
    return [
        f"unknown {kind} '{name}' in {where(field)}: {field}[{index}]{did_you_mean(name, known)}"
        for index, name in enumerate(names)
        if name not in known
    ]


def _unknown_parts(
    field: str, names: list[str], shelf: ModelShelf | DatasetShelf, where: Callable[[str], str]
) -> list[str]:
    """Features, variants and readings (``name@part``) that their cards do not have."""
    mistakes = []
    for index, name in enumerate(names):
        if "@" in name and name.split("@")[0] in shelf.names():
            try:
                shelf[name]
            except DiscernError as error:
                mistakes.append(f"{where(field)}: {field}[{index}]: {error}")
    return mistakes


def read_study(*files: Path | str) -> Study:
    """Load a study from files as Snakemake merges them: mappings gain keys, lists are replaced."""
    merged: dict[str, Any] = {}
    for file in files:
        _merge(merged, load_yaml(file))
    return load_study(merged, files)


def _merge(base: dict[str, Any], update: dict[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
