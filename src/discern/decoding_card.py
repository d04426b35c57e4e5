"""How a file becomes 8-bit RGB: the rule that a data-set card states, applied before any resize."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from discern.validation import Strict


class Range(Strict):
    """Values from ``low`` to ``high`` become 0 to 255; what lies outside is clipped."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ascends(self) -> Range:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        return self


class Level(Strict):
    """A window of a viewer: ``width`` values around ``center`` become 0 to 255.

    Of whole numbers by DICOM's function LINEAR, of floats by LINEAR_EXACT.
    """

    center: float
    width: float = Field(gt=0)


#: Which values become black and white; docs/decoding.md has the numbers of the named windows.
Window = (
    Literal[
        "min_max",  # of each image
        "percentile",  # 0.5 to 99.5 of each image
        "full_range",  # of the stored type
        "file",  # what the DICOM header names (the first VOI LUT or window), else min_max
        "ct_abdomen", "ct_bone", "ct_brain", "ct_liver", "ct_lung", "ct_mediastinum", "ct_soft_tissue",
    ]
    | Range
    | Level
)  # fmt: skip


class Decoding(Strict):
    """The rule. Pictures of 8 bits a channel keep their values; the paper states no rule for others."""

    window: Window = "file"  # of more than 8 bits: a name of docs/decoding.md, {low, high} or {center, width}
    transparency: Literal["black", "white", "ignore"] = "black"  # what shows through; ignore: drop alpha
    frames: Literal["first", "middle", "all"] | Annotated[int, Field(ge=0)] = "first"  # of multi-frame files
    max_pixels: int = Field(default=89_478_485, gt=0)  # of one picture; more is refused
