"""Model cards and data-set cards: the facts of the benchmark, one YAML file each.

Adding a model or a data set is adding a file. Cards are read without importing any heavy library.
Sources of every field: the fact sheets cited in the cards themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from discern.errors import DiscernError, did_you_mean
from discern.validation import Strict, load_yaml, parse

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]

MODEL_GROUPS = {
    "medical_vlm": "Medical VLMs, modality-agnostic",
    "modality_specific": "Medical VLMs, modality-specific",
    "non_medical_vlm": "General VLMs",
    "non_vlm": "Vision models",
    "control": "Controls",
}


# --------------------------------------------------------------------------- where files come from


class PackageFile(Strict):
    """Members of a package from the Python package index, used as a data archive, never imported."""

    kind: Literal["package"]
    package: str
    version: str
    archive: Literal["wheel", "sdist"] = "wheel"
    sha256: Sha256
    members: list[str] = Field(min_length=1)  # paths inside the archive; a trailing / takes a folder


class HubFile(Strict):
    """Files of a model or data-set repository on the Hugging Face Hub at a pinned revision."""

    kind: Literal["hub"]
    repo: str
    revision: str | None = None  # null: not yet known, refused at download time
    files: list[str] = []
    sha256: dict[str, Sha256] = {}
    gated: bool = False
    terms: str | None = None  # page on which access is granted


class UrlFile(Strict):
    """One file behind a direct address."""

    kind: Literal["url"]
    url: str
    sha256: Sha256 | None = None
    md5: Md5 | None = None


class ManualFile(Strict):
    """Something only a person can fetch: where to get it, what to place."""

    kind: Literal["manual"]
    page: str
    place: str  # file or folder names expected in the target folder
    note: str = ""


class Nothing(Strict):
    """No file is needed: controls and random weights."""

    kind: Literal["none"]


class Library(Strict):
    """Weights that a library downloads under a fixed name (torchvision, open_clip tags)."""

    kind: Literal["library"]
    library: str
    tag: str
    sha256: Sha256 | None = None


class RecipeSource(Strict):
    """Images cut from package files by a recipe in ``discern.data.recipes``."""

    kind: Literal["recipe"]
    recipe: str
    options: dict[str, Any] = {}
    seed: int = 0
    packages: list[PackageFile] = []


WeightsSource = Annotated[
    PackageFile | HubFile | UrlFile | ManualFile | Library | Nothing, Field(discriminator="kind")
]
DatasetSource = Annotated[RecipeSource | HubFile | UrlFile | ManualFile, Field(discriminator="kind")]


# --------------------------------------------------------------------------- model cards


class Loader(Strict):
    """How the image encoder is built and how the published keys become its state dict."""

    route: Literal["torchvision", "timm", "open_clip", "transformers", "onnx", "pixels"]
    arch: str = ""  # name of the architecture in its library
    options: dict[str, Any] = {}  # keyword arguments of the architecture
    keys: Literal["named", "by_order", "random"] = "named"  # how published tensors find their place
    prefix: str | list[str] = ""  # taken off the published keys; others are left out
    output: str = ""  # one of the route's outputs or a graph's tensor; empty: the encoder's own
    seed: int | None = None  # of random weights


class Preprocess(Strict):
    """One explicit transform, in this order: RGB, resize, crop, channels, scale, mean, std."""

    resize: Literal["shortest", "squash", "pad", "none"]
    size: int = Field(gt=0)  # pixels, target of the resize
    crop: int | None = None  # centre crop after the resize
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = "bicubic"
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    scale: float = 255.0  # pixel values are divided by this
    mean: list[float] = [0.0, 0.0, 0.0]
    std: list[float] = [1.0, 1.0, 1.0]

    @property
    def input_size(self) -> int:
        """Side of the square that the encoder sees, in pixels."""
        return self.crop or self.size


class Feature(Strict):
    """One named tensor that may serve as the image feature."""

    name: Name
    d: int = Field(gt=0)
    tensor: str = ""  # where it is taken, in words
    reason: str = ""


class Training(Strict):
    """What a model saw in training: the daggers of the tables."""

    modalities: list[str] = []
    datasets: list[str] = []
    note: str = ""


class ModelCard(Strict):
    """One image encoder."""

    name: Name
    title: str  # as tables print it
    group: Literal["medical_vlm", "modality_specific", "non_medical_vlm", "non_vlm", "control"]
    summary: str = ""
    paper_row: str | None = None  # the model's name in the published tables
    weights: WeightsSource
    loader: Loader
    preprocess: Preprocess
    features: list[Feature] = Field(min_length=1)  # the first is the default
    environment: Name  # envs/<name>.yaml
    batch_size: int = Field(default=32, gt=0)  # images at once; fewer need less memory
    gpu: bool = True  # asks for a GPU where the cluster has one
    volumetric: bool = False  # takes volumes; not run on 2D data sets
    training: Training = Training()
    licence: str
    citation: str = ""
    sources: list[str] = []
    notes: list[str] = []

    @property
    def feature(self) -> Feature:
        """The default feature."""
        return self.features[0]

    def extraction_spec(self) -> dict[str, Any]:
        """The fields that the extracted features depend on, and no others."""
        return self.model_dump(mode="json", include={"name", "loader", "preprocess"}) | {
            "feature": self.feature.model_dump(include={"name", "d"}),
            "weights": self.weights.model_dump(mode="json"),
        }


# --------------------------------------------------------------------------- data-set cards

ManifestColumn = Literal["path", "label", "group", "volume", "official_split", "mask_path", "boxes"]


class ClassEntry(Strict):
    """One class in canonical order; ``count`` is the number of images in the pool."""

    name: str
    title: str = ""
    count: int | None = Field(default=None, ge=0)


class Join(Strict):
    """A second CSV whose rows are added to those of the first by an equal column."""

    table: str
    on: str


class Adapter(Strict):
    """How the files of a data set become manifest rows; ``discern.data.adapters`` has one function each.

    ``pattern`` is a regular expression on the file name; files that do not match are left out and
    counted, and its named groups ``label``, ``group`` and ``volume`` fill those columns.
    ``columns`` maps a manifest column to a CSV column, to a text with ``{CSV columns}`` in it, or to a
    list of them of which exactly one is filled in every row.
    """

    kind: Literal["table", "image_folder", "npz"]
    table: str = "labels.csv"  # table: CSV with path, label and optional manifest columns
    columns: dict[ManifestColumn, str | list[str]] = {}  # table: where the names differ
    one_hot: bool = False  # table: one column per class, 1 in that of the row's class
    join: Join | None = None  # table: a second CSV
    folder: str = ""  # image_folder: sub-folder whose children are the classes
    labels: dict[str, str] = {}  # folder name or label value -> class name, where they differ
    pattern: str = ""  # image_folder: see above
    file: str = ""  # npz: the file name
    options: dict[str, Any] = {}

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            named = set(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from error
        if unknown := sorted(named - {"label", "group", "volume"}):
            raise ValueError(f"unknown named group {', '.join(unknown)}; allowed: label, group, volume")
        return pattern


class DatasetCard(Strict):
    """One data set."""

    name: Name
    version: int = 1
    title: str
    modality: str
    summary: str = ""
    paper_n: int | None = None
    paper_classes: int | None = None
    source: DatasetSource
    adapter: Adapter
    classes: list[ClassEntry] = Field(min_length=2)
    expected_n: int | None = None
    accepted_n: list[int] = []
    pool: list[str] | None = None  # official splits that form the pool; null: all images
    positive_class: str | None = None  # of binary sets
    group_key: str | None = None  # what `group` in the manifest means; null: unknown
    group_note: str = ""
    drop: list[str] = []  # image ids left out by name
    duplicates: Literal["report", "refuse"] = "report"
    licence: str
    citation: str = ""
    traps: list[str] = []

    @field_validator("classes")
    @classmethod
    def _unique(cls, classes: list[ClassEntry]) -> list[ClassEntry]:
        names = [c.name for c in classes]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"class named twice: {', '.join(sorted(twice))}")
        return classes

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> DatasetCard:
        if self.positive_class is not None and self.positive_class not in self.class_names:
            raise ValueError(f"positive_class '{self.positive_class}' is not among the classes")
        return self

    @property
    def class_names(self) -> list[str]:
        """Class names in canonical order; a label is an index into them."""
        return [c.name for c in self.classes]

    @property
    def n(self) -> int | None:
        """Number of images the card expects in the pool, or None if unknown."""
        if self.expected_n is not None:
            return self.expected_n
        counts = [c.count for c in self.classes]
        return None if None in counts else sum(c for c in counts if c is not None)

    def preparation_spec(self) -> dict[str, Any]:
        """The fields that the manifest depends on, and no others."""
        return self.model_dump(
            mode="json",
            include={
                "name", "version", "adapter", "classes", "expected_n", "accepted_n", "pool",
                "group_key", "drop", "duplicates",
            },
        )  # fmt: skip


# --------------------------------------------------------------------------- the registry

Card = TypeVar("Card", ModelCard, DatasetCard)


class Shelf(Generic[Card]):
    """Cards of one kind by name, read when first asked for."""

    def __init__(self, kind: str, card: type[Card], folders: Iterable[Path]):
        self._kind = kind
        self._card: type[Card] = card
        self._files: dict[str, Path] = {}
        self._cards: dict[str, Card] = {}
        for folder in folders:
            for file in sorted(folder.glob("*.yaml")):
                if file.stem in self._files:
                    raise DiscernError(
                        f"{file}: {kind} '{file.stem}' is already defined in {self._files[file.stem]}"
                    )
                self._files[file.stem] = file

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._files)

    def file(self, name: str) -> Path:
        """The card's file."""
        return self._files[name]

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Card:
        if name not in self._files:
            raise DiscernError(f"unknown {self._kind} '{name}'{did_you_mean(name, self._files)}")
        if name not in self._cards:
            file = self._files[name]
            card = parse(self._card, load_yaml(file), str(file))
            if card.name != name:
                raise DiscernError(f"{file}: name: found '{card.name}', must equal the file's name '{name}'")
            self._cards[name] = card
        return self._cards[name]

    def all(self) -> list[Card]:
        """Every card, by name."""
        return [self[name] for name in self.names()]


class Registry:
    """Every card in one or more registry folders (each with ``models/`` and ``datasets/``)."""

    def __init__(self, folders: Iterable[Path | str] = ("registry",)):
        self.folders = [Path(folder) for folder in folders]
        for folder in self.folders:
            if not folder.is_dir():
                raise DiscernError(f"{folder}: no such registry folder")

    @cached_property
    def models(self) -> Shelf[ModelCard]:
        """Model cards."""
        return Shelf("model", ModelCard, [f / "models" for f in self.folders])

    @cached_property
    def datasets(self) -> Shelf[DatasetCard]:
        """Data-set cards."""
        return Shelf("data set", DatasetCard, [f / "datasets" for f in self.folders])

    def reference_file(self, name: str) -> Path:
        """The published table ``name`` (CSV) or DiscernError naming those that exist."""
        files = {p.stem: p for f in self.folders for p in sorted((f / "reference").glob("*.csv"))}
        if name not in files:
            raise DiscernError(f"unknown reference table '{name}'{did_you_mean(name, files)}")
        return files[name]
