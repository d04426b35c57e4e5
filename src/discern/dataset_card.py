"""Data-set cards: source, adapter, classes with counts, group key, licence, traps."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from discern.sources import DatasetSource, Name
from discern.validation import Strict

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
    modality: str  # 'CT volume': the images are volumes (NIfTI files), for volumetric models
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
    def volumetric(self) -> bool:
        """Whether an image of this data set is a volume: ``modality`` ends with it, as in 'CT volume'."""
        return self.modality.endswith("volume")

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
