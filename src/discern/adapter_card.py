"""How the files of a data set become rows: one strict record for each kind of layout.

``discern.data.adapters`` has one module for each. What all share: ``labels`` renames the values of a
label to class names; a value mapped to null leaves its images out.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from discern.validation import Strict

ManifestColumn = Literal["path", "label", "group", "volume", "official_split", "mask_path", "boxes"]
NAMED_GROUPS = frozenset({"label", "group", "volume", "official_split"})

#: In a mapping of a table's columns: ``{column}``, or ``{column|regular expression}`` without braces.
PLACEHOLDER = re.compile(r"\{([^{}|]+)(?:\|([^{}]*))?\}")


def _inside(place: str) -> str:
    """A file, folder or pattern below the data set's folder."""
    path = PurePosixPath(place)
    if path.is_absolute() or ".." in path.parts or "\\" in place:
        raise ValueError("must be a relative path with / and without ..")
    return place


Place = Annotated[str, AfterValidator(_inside)]


class Labelled(Strict):
    """What every adapter has."""

    labels: dict[str, str | None] = {}  # value or folder name -> class name; null leaves those images out


class Join(Strict):
    """A second CSV whose columns are added to those of the first, where an equal column says so."""

    table: Place
    on: str


def _parts_are_named(splits: list[str], *templates: str) -> None:
    """``splits`` need a ``{split}`` that stands for them, or each would read the same files."""
    placed = any("{split}" in template for template in templates)
    if splits and not placed:
        raise ValueError("`splits` need {split} in the name that differs between them")


class FileNames(Labelled):
    """Layouts in which folders and file names carry what is known of an image.

    ``pattern`` is a regular expression on the file name; files that do not match are left out and
    counted. Its named groups ``label``, ``group``, ``volume`` and ``official_split`` fill those columns.
    """

    folder: Place = ""  # whose sub-folders are the classes; {split} stands for each of `splits`
    splits: list[str] = []  # official splits with a folder each; of a card with a pool only those are read
    pattern: str = ""  # regular expression that file names must fit; its named groups fill columns

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        if unknown := sorted(_named(pattern) - NAMED_GROUPS):
            raise ValueError(
                f"unknown named group {', '.join(unknown)}; allowed: {', '.join(sorted(NAMED_GROUPS))}"
            )
        return pattern

    @model_validator(mode="after")
    def _split_folders(self) -> FileNames:
        _parts_are_named(self.splits, self.folder)
        if "{split}" in self.folder and not self.splits:
            raise ValueError("folder: {split} stands for `splits`, which are not listed")
        return self


def _named(expression: str) -> set[str]:
    try:
        return set(re.compile(expression).groupindex)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from error


class ImageFolder(FileNames):
    """A folder per class, pictures at any depth below it."""

    kind: Literal["image_folder"]
    masks: str = ""  # whole names of the masks beside an image: regular expression, {stem} is the image's own

    @field_validator("masks")
    @classmethod
    def _names_the_image(cls, masks: str) -> str:
        if masks and masks.count("{stem}") != 1:
            raise ValueError("must contain {stem} once, which stands for the image's name without suffix")
        _named(masks.replace("{stem}", "x"))
        return masks


class DicomFolder(FileNames):
    """DICOM files at any depth; label and group from folders, file names or header fields."""

    kind: Literal["dicom_folder"]
    label: str = ""  # header keyword, such as BodyPartExamined; empty: the folder, or the pattern
    group: str = "PatientID"  # header keyword; empty: none, or the pattern
    volume: str = "SeriesInstanceUID"  # header keyword; empty: none, or the pattern


class Sheet(Labelled):
    """Layouts in which a table has a row per image.

    ``columns`` maps a manifest column to a table column, to a text with ``{table columns}`` in it (which
    is empty where one of them is), or to a list of them of which exactly one is filled in every row.
    ``{Path|patient\\d+}`` is the first part of the column Path that the regular expression matches.
    """

    table: Place = "labels.csv"  # {split} stands for each of `splits`
    splits: list[str] = []  # official splits with a table each; of a card with a pool only those are read
    columns: dict[ManifestColumn, str | list[str]] = {}  # where the names differ; {split} as above
    images: list[Place] = Field(default=[""], min_length=1)  # where images lie, in one of these or in several

    @model_validator(mode="after")
    def _split_tables(self) -> Sheet:
        for source in self.columns.values():
            for match in PLACEHOLDER.finditer(source if isinstance(source, str) else " ".join(source)):
                _named(match[2] or "")
        _parts_are_named(self.splits, self.table)
        if "{split}" in self.table and not self.splits:
            raise ValueError("table: {split} stands for `splits`, which are not listed")
        return self


class Csv(Sheet):
    """A CSV with columns path and label, and optionally group, volume, official_split, mask_path, boxes."""

    kind: Literal["csv"]
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    header: list[str] = []  # column names of a file that has no header line
    one_hot: bool = False  # one column per class (or key of `labels`), 1 in that of the row's class
    join: Join | None = None


class Parquet(Sheet):
    """Parquet files with the pictures' bytes in them, as data-set hubs publish them.

    The column ``path`` holds either bytes, or a record with the field ``bytes``, or a path; so may
    ``mask_path``. Labels are class names, or numbers: of the names in the file's own metadata if it has
    them, else of the card's classes.
    """

    kind: Literal["parquet"]
    table: Place = "*.parquet"  # a pattern may match several files, which are read in order of their names


class Npz(Labelled):
    """A NumPy archive, such as MedMNIST's, with arrays ``<split>_images`` (N, H, W[, 3]) and
    ``<split>_labels`` (N,), (N, 1) or one-hot (N, classes)."""

    kind: Literal["npz"]
    file: Place  # {split} stands for each of `splits`, here or in the names of the arrays
    splits: list[str] = ["train", "val", "test"]  # empty: arrays `images` and `labels`
    images: str = "{split}_images"
    targets: str = "{split}_labels"
    groups: str = ""  # array of the images' groups, if there is one

    @model_validator(mode="after")
    def _split_arrays(self) -> Npz:
        _parts_are_named(self.splits, self.file, self.images)
        return self


class Python(Labelled):
    """A function of your own: ``function(root, **options)`` gives a mapping for each image.

    Its keys are path (below root) and label, optionally image_id, group, volume, official_split,
    mask_path or mask_paths (a list), boxes (lists of x0, y0, x1, y1).
    """

    kind: Literal["python"]
    function: str  # package.module:function; the module lies beside config.yaml
    options: dict[str, Any] = {}  # further arguments of the function

    @field_validator("function")
    @classmethod
    def _names_a_function(cls, function: str) -> str:
        module, _, name = function.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), name]):
            raise ValueError("must be package.module:function")
        return function


Adapter = Annotated[ImageFolder | DicomFolder | Csv | Parquet | Npz | Python, Field(discriminator="kind")]
