"""A card's transform in words, for people, metadata and report; needs neither Pillow nor NumPy."""

from __future__ import annotations

from discern.model_card import Preprocess, VolumePreprocess

GRID_WORDS = {"edges": "outer edges kept", "centres": "first voxel kept"}

RESIZE_WORDS = {
    "shortest": "shortest side to {size} px",
    "squash": "to {width} x {height} px, aspect ratio ignored",
    "pad": "padded to a square with {fill}, then to {size} x {size} px",
    "canvas": "long side to {size} px, short side truncated, black on the right or bottom",
    "none": "not resized",
}

PREPARE_WORDS = {
    "visionunite": "contrast times 1.3, minus each channel's minimum plus one (modulo 256), to HSV",
}


def describe(p: Preprocess | VolumePreprocess) -> str:
    """The transform of pictures or volumes in one line, for people, metadata and report."""
    if isinstance(p, VolumePreprocess):
        return _describe_volume(p)
    steps = ["8-bit RGB"]
    if p.prepare:
        steps.append(PREPARE_WORDS[p.prepare])
    steps.append(_resize_words(p))
    if p.crop is not None:
        steps.append(f"centre crop {p.crop} px")
    if p.channels != "rgb":
        steps.append({"bgr": "channels in BGR order", "grey": "grey"}[p.channels])
    if p.scale != 1:
        steps.append(f"divided by {p.scale:g}")
    if p.stretch:
        steps.append("each picture's own range to 0..1")
    count = 1 if p.channels == "grey" else 3
    if any(p.mean[:count]):
        steps.append(f"minus {_numbers(p.mean[:count])}")
    if any(s != 1 for s in p.std[:count]):
        steps.append(f"divided by {_numbers(p.std[:count])}")
    return "; ".join(steps)


def pad_colour(p: Preprocess) -> tuple[int, int, int]:
    """RGB colour of the padding: black, or the card's mean, truncated as in LLaVA's expand2square."""
    if p.fill == "black":
        return 0, 0, 0
    mean = [int(m * p.scale) for m in p.mean]
    if p.channels == "grey":
        mean = mean[:1] * 3
    red, green, blue = reversed(mean) if p.channels == "bgr" else mean
    return red, green, blue


def _describe_volume(v: VolumePreprocess) -> str:
    clip = f"clipped to {v.window[0]:g} to {v.window[1]:g} HU"
    resample = f"resampled to {_times(v.spacing)} mm (trilinear, {GRID_WORDS[v.grid]})"
    return "; ".join(
        [
            f"axes {v.orientation}",
            *([clip, resample] if v.window_first else [resample, clip]),
            f"scaled to {v.scaled[0]:g} to {v.scaled[1]:g}",
            f"centre crop or padding with {v.fill:g} to {_times(v.size)} voxels",
        ]
    )


def _resize_words(p: Preprocess) -> str:
    height, width = p.size if isinstance(p.size, tuple) else (p.size, p.size)
    fill = "black" if not any(pad_colour(p)) else f"RGB {pad_colour(p)}"
    words = RESIZE_WORDS[p.resize].format(size=p.size, height=height, width=width, fill=fill)
    if p.resize == "none":
        return words
    how: list[str] = [p.interpolation]
    if not p.antialias:
        how.append("without antialiasing")
    if p.precision == "float32":
        how.append("on float32 pixels")
    elif not p.antialias:
        how.append("truncated to 8 bits")
    return f"{words} ({', '.join(how)})"


def _numbers(values: list[float]) -> str:
    return "(" + ", ".join(f"{v:.10g}" for v in values) + ")"


def _times(values: tuple[float, ...] | tuple[int, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)
