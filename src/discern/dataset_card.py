"""Data-set cards: source, adapter, classes with counts, group key, readings, licence, traps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from discern.adapter_card import Adapter
from discern.decoding_card import Decoding
from discern.errors import did_you_mean, problem
from discern.merge import merged
from discern.sources import DatasetSource, Name
from discern.validation import Strict, Titled

DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*(@[a-z0-9][a-z0-9_]*)?$")]

#: Fields that a reading replaces instead of adding to them.
WHOLE = ("labels", "source", "readings", "official_splits", "options")


class ClassEntry(Strict):
    """One class in canonical order; ``count`` is the number of images in the pool."""

    name: str
    title: str = ""
    count: int | None = Field(default=None, ge=0)


class DatasetCard(Titled):
    """One data set."""

    name: DatasetName
    version: int = 1
    title: str = ""  # as tables print it; empty: the name
    modality: str = "not stated"  # 'CT volume': the images are volumes (NIfTI files), for volumetric models
    summary: str = ""
    reading: str = ""  # which of several readings this is, printed with the tables
    readings: dict[Name, dict[str, Any]] = {}  # name -> card fields that differ; selected as data_set@name
    subset: bool = False  # of a reading: all its images are among the card's own, so features are shared
    paper_n: int | None = None
    paper_classes: int | None = None
    source: list[DatasetSource] = Field(min_length=1)  # one, or several that are brought together
    adapter: Adapter
    decoding: Decoding = Decoding()
    classes: list[ClassEntry] = Field(min_length=2)
    expected_n: int | None = None
    accepted_n: list[int] = []  # other totals that are known and tolerated
    official_splits: dict[str, int] = {}  # the data set's own parts and their numbers of images
    pool: list[str] | None = None  # official splits that form the pool; null: all images
    positive_class: str | None = None  # of binary sets
    group_key: str | None = None  # what `group` in the manifest means; null: unknown
    group_note: str = ""
    drop: list[str] = []  # image ids left out by name; * stands for any characters
    duplicates: Literal["report", "refuse"] = "report"
    hash_distance: int = Field(
        default=2, ge=0, le=16
    )  # bits of 64 in which near-duplicates' hashes may differ
    licence: str = "not stated"
    terms: str | None = None  # page on which access is granted
    citation: str = ""
    traps: list[str] = []

    @field_validator("source", mode="before")
    @classmethod
    def _several(cls, source: Any) -> Any:
        return source if isinstance(source, list) else [source]

    @field_validator("classes")
    @classmethod
    def _unique(cls, classes: list[ClassEntry]) -> list[ClassEntry]:
        names = [c.name for c in classes]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"class named twice: {', '.join(sorted(twice))}")
        return classes

    @model_validator(mode="after")
    def _consistent(self) -> DatasetCard:
        if self.positive_class is not None and self.positive_class not in self.class_names:
            raise ValueError(f"positive_class '{self.positive_class}' is not among the classes")
        unknown = {n for n in self.adapter.labels.values() if n is not None} - set(self.class_names)
        if unknown:
            raise ValueError(f"adapter.labels: not among the classes: {', '.join(sorted(unknown))}")
        if self.subset and "@" not in self.name:
            raise ValueError("subset: only a reading can be a subset of its card")
        for part in self.readings:  # a mistake in a reading is a mistake in the card
            self._check(part)
        return self

    def _check(self, part: str) -> None:
        if not self.readings[part].get("reading"):
            raise ValueError(f"reading '{part}': `reading` must say in words what differs")
        try:
            self.selected(part)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ValueError(f"reading '{part}': {field}: {first['msg']}") from error

    def selected(self, part: str) -> DatasetCard:
        """This card by its reading ``part``: ``name@part``."""
        if part not in self.readings:
            what = f"has no reading '{part}'{did_you_mean(part, self.readings)}"
            raise problem(f"data set '{self.name}'", what, allowed=self.readings)
        changes = {"paper_n": None, "paper_classes": None} | self.readings[part]
        if "classes" in changes or "pool" in changes or "drop" in changes:
            # Numbers of other images do not hold for these.
            changes = {"expected_n": None, "accepted_n": [], "positive_class": None} | changes
        own = {
            "name": f"{self.name}@{part}",
            "title": f"{self.title} [{part.replace('_', ' ')}]",
            "readings": {},
        }
        mine = self.model_dump(exclude_unset=True)
        return DatasetCard.model_validate(merged(mine | own, changes, WHOLE))

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
                "name", "version", "reading", "adapter", "decoding", "classes", "expected_n", "accepted_n",
                "official_splits", "pool", "group_key", "drop", "duplicates", "hash_distance",
            },
        )  # fmt: skip
