"""Stress set: does an encoder follow words printed on the picture instead of the anatomy?

Real slices get a random label, breast or axilla; only printed text can carry it. All variants share
base pictures, labels and file names, so that they are compared image by image:
``none`` prints nothing, ``readouts`` prints values as ultrasound screens do (the same style for both
classes), ``presence`` adds AXILLA to one class only, ``words`` adds BREAST or AXILLA at any place and
in any style, ``fixed`` adds them at one place in one style.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from discern.data.recipes.planes import MEAN_HEAD, MNI, centred, filled_slices, grey_t1
from discern.data.recipes.samples import Sample, slab
from discern.data.recipes.volumes import Volume, read_nifti, to_grey
from discern.errors import problem

VARIANTS = ("none", "readouts", "presence", "words", "fixed")
PIXELS = 224
IMAGES = 356
EVERY = 3.0  # mm between slices
LEAST = 0.12  # foreground, as a share of the plane's largest
CT_WINDOW = (-160.0, 240.0)  # Hounsfield units
READOUT_SIZE = 10  # pixels, as all sizes of text
READOUT_COLOUR = (200, 200, 200)
SIZES = (13, 20)  # smallest and largest word
WHITE = (255, 255, 255)
COLOURS = (WHITE, (255, 255, 0), (0, 255, 255), (128, 255, 128))
FIXED_SIZE = 20
FIXED_PLACE = (12, 180)  # x, y
Box = tuple[int, int, int, int]


def samples(sources: Path, options: dict[str, Any], seed: int) -> Iterator[Sample]:
    """The pictures of ``options["variant"]``; boxes hold the word only, never the read-outs."""
    variant = options.get("variant")
    if variant not in VARIANTS:
        raise problem("source.options.variant", f"found {variant!r}", allowed=VARIANTS)
    slices = _slices(sources)
    labels = np.random.default_rng(seed).permutation([0, 1] * (len(slices) // 2))
    for number, (volume, plane, index) in enumerate(slices):
        label = ("axilla", "breast")[labels[number]]
        picture = centred(volume.plane(plane, index), volume.plane_spacing(plane), None, PIXELS)
        image = Image.fromarray(np.round(picture).astype(np.uint8)).convert("RGB")
        boxes = _print(image, variant, label, seed, number)
        yield Sample(
            name=f"{volume.name}_{plane}_{index:03d}",
            label=label,
            picture=np.asarray(image),
            volume=volume.name,
            group=f"{volume.name}/{plane}/{slab(index, volume.step(plane)):02d}",
            boxes=boxes,
        )


def _slices(sources: Path) -> list[tuple[Volume, str, int]]:
    """IMAGES slices, evenly out of one every 3 mm that shows enough."""
    folder = sources / "totalsegmentator"
    patient_a = _grey_ct(folder / "example_ct.nii.gz", "ct_a")
    patient_c = _grey_ct(folder / "aorta_report" / "example_ct.nii.gz", "ct_c")
    found = [
        (volume, plane, index)
        for volume, plane in (
            (patient_a, "axial"),
            (patient_a, "coronal"),
            (patient_c, "axial"),
            (patient_c, "coronal"),
            (grey_t1(sources / MNI, "mni_t1"), "axial"),
            (grey_t1(sources / MEAN_HEAD, "mean_head"), "sagittal"),
        )
        for index in filled_slices(volume, plane, EVERY, LEAST)
    ]
    return [found[i] for i in np.linspace(0, len(found) - 1, IMAGES).round().astype(int)]


def _grey_ct(path: Path, name: str) -> Volume:
    volume = read_nifti(path, name)
    return Volume(name, to_grey(volume.voxels, *CT_WINDOW), volume.spacing)


def _print(image: Image.Image, variant: str, label: str, seed: int, number: int) -> tuple[Box, ...]:
    """Print the variant's text on ``image``; returns the word's box.

    Read-outs and word are drawn from generators of their own, seeded by the image's number, so that
    every variant has the same read-outs and `presence` has the words of `words`.
    """
    if variant == "none":
        return ()
    _print_readouts(image, np.random.default_rng([seed, number, 1]))
    if variant == "readouts" or (variant == "presence" and label == "breast"):
        return ()
    word = label.upper()
    if variant == "fixed":
        return (_print_text(image, word, FIXED_SIZE, WHITE, FIXED_PLACE),)
    rng = np.random.default_rng([seed, number, 2])
    text = f"{'LR'[rng.integers(2)]} {word}"
    size = int(rng.integers(SIZES[0], SIZES[1] + 1))
    colour = COLOURS[rng.integers(len(COLOURS))]
    width, height = _extent(text, size)
    # Any place but that of the read-outs, which would make the word illegible.
    place = (int(rng.integers(2, PIXELS - width - 1)), int(rng.integers(20, 205 - height)))
    return (_print_text(image, text, size, colour, place),)


def _print_readouts(image: Image.Image, rng: np.random.Generator) -> None:
    hour, minute, second = rng.integers([7, 0, 0], [19, 60, 60])
    lines = {
        (4, 4): f"{hour:02d}:{minute:02d}:{second:02d}",
        (168, 4): f"MI {rng.uniform(0.4, 1.6):.1f}",
        (4, 209): f"TIS {rng.uniform(0.1, 1.2):.1f}",
        (168, 209): f"{rng.uniform(3, 9):.1f} cm",
    }
    for place, text in lines.items():
        _print_text(image, text, READOUT_SIZE, READOUT_COLOUR, place)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    # Basic layout: the same pixels whether or not Pillow finds a text-shaping library.
    return ImageFont.truetype(
        str(folder / "DejaVuSansMono-Bold.ttf"), size, layout_engine=ImageFont.Layout.BASIC
    )


def _extent(text: str, size: int) -> tuple[int, int]:
    """Width and height of the ink in pixels, black edge included."""
    x0, y0, x1, y1 = _font(size).getbbox(text, stroke_width=1)
    return int(np.ceil(x1 - x0)), int(np.ceil(y1 - y0))


def _print_text(
    image: Image.Image, text: str, size: int, colour: tuple[int, int, int], place: tuple[int, int]
) -> Box:
    """Print with the ink's upper left corner at ``place`` (x, y), edged black to be legible on bone."""
    font = _font(size)
    left, top = font.getbbox(text, stroke_width=1)[:2]
    x, y = place
    ImageDraw.Draw(image).text(
        (x - left, y - top), text, font=font, fill=colour, stroke_width=1, stroke_fill=(0, 0, 0)
    )
    width, height = _extent(text, size)
    return (x, y, x + width, y + height)
