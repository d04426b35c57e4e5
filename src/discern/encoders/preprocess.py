"""One explicit transform from image file to encoder input, spelt out in the model card.

Libraries disagree silently here: their processors differ in back end, antialiasing and the moment of
the RGB conversion. This transform needs Pillow and NumPy only, so every environment computes the same
pixels; it is bit-equal to torchvision's Resize, CenterCrop, ToTensor and Normalize on Pillow images.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from discern.errors import problem
from discern.model_card import Preprocess

Size = tuple[int, int]  # width, height

RESIZE_WORDS = {
    "shortest": "shortest side to {size} px",
    "squash": "to {size} x {size} px, aspect ratio ignored",
    "pad": "padded to a square with {fill}, then to {size} x {size} px",
    "none": "not resized",
}


def apply(image: Image.Image, p: Preprocess) -> np.ndarray:
    """RGB picture of any size -> float32 (C, input_size, input_size); C is 1 for grey, else 3."""
    framed = _frame(image.convert("RGB"), p, _resampling(p), pad_colour(p))
    if p.channels == "grey":
        pixels = np.asarray(framed.convert("L"))[None]
    else:
        pixels = np.asarray(framed).transpose(2, 0, 1)
    if p.channels == "bgr":
        pixels = pixels[::-1]
    count = len(pixels)
    # In-place float32 arithmetic in torchvision's order keeps the last bit equal to it.
    result = pixels.astype(np.float32)
    result /= np.float32(p.scale)
    result -= np.asarray(p.mean[:count], np.float32)[:, None, None]
    result /= np.asarray(p.std[:count], np.float32)[:, None, None]
    return result


def view(image: Image.Image, p: Preprocess) -> Image.Image:
    """The RGB picture that the encoder sees, before scaling: input_size x input_size pixels."""
    framed = _frame(image.convert("RGB"), p, _resampling(p), pad_colour(p))
    return framed.convert("L").convert("RGB") if p.channels == "grey" else framed


def apply_mask(mask: Image.Image | np.ndarray, p: Preprocess) -> np.ndarray:
    """Mask of the image file (bool (H, W), or a picture whose white is inside) -> bool (h, w).

    The result lies in the encoder's frame. Nearest neighbour; what was padded is outside.
    """
    if isinstance(mask, Image.Image):
        inside = np.asarray(mask.convert("L")) > 127
    else:
        inside = np.asarray(mask, dtype=bool)
    picture = Image.fromarray(inside.astype(np.uint8) * 255)
    return np.asarray(_frame(picture, p, Image.Resampling.NEAREST, 0)) > 127


def describe(p: Preprocess) -> str:
    """The transform in one line, for metadata and report."""
    fill = "black" if not any(pad_colour(p)) else f"RGB {pad_colour(p)}"
    steps = ["8-bit RGB", RESIZE_WORDS[p.resize].format(size=p.size, fill=fill)]
    if p.resize != "none":
        steps[-1] += f" ({p.interpolation})"
    if p.crop is not None:
        steps.append(f"centre crop {p.crop} px")
    if p.channels != "rgb":
        steps.append({"bgr": "channels in BGR order", "grey": "grey"}[p.channels])
    count = 1 if p.channels == "grey" else 3
    if p.scale != 1:
        steps.append(f"divided by {p.scale:g}")
    if any(p.mean[:count]):
        steps.append(f"minus {_numbers(p.mean[:count])}")
    if any(s != 1 for s in p.std[:count]):
        steps.append(f"divided by {_numbers(p.std[:count])}")
    return "; ".join(steps)


def pad_colour(p: Preprocess) -> tuple[int, int, int]:
    """RGB colour of the padding: the card's mean, truncated as in LLaVA's expand2square."""
    mean = [int(m * p.scale) for m in p.mean]
    if p.channels == "grey":
        mean = mean[:1] * 3
    red, green, blue = reversed(mean) if p.channels == "bgr" else mean
    return red, green, blue


def _numbers(values: list[float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _resampling(p: Preprocess) -> Image.Resampling:
    return Image.Resampling[p.interpolation.upper()]


def _frame(
    image: Image.Image, p: Preprocess, resampling: Image.Resampling, fill: int | tuple[int, ...]
) -> Image.Image:
    """Resize and crop to input_size x input_size; pictures and masks go the same way."""
    if p.resize == "pad":
        image = _pad_to_square(image, fill)
    if p.resize != "none":
        image = image.resize(_resized(image.size, p), resampling)
    if p.crop is not None and min(image.size) >= p.crop:
        image = _centre_crop(image, p.crop)
    height, width = p.input_size
    if image.size != (width, height):
        raise problem(
            "preprocess",
            f"the picture is {image.width} x {image.height} px after resize '{p.resize}', "
            f"the encoder takes {width} x {height}",
            repair="choose another resize, or a crop not larger than the resized picture",
        )
    return image


def _resized(size: Size, p: Preprocess) -> Size:
    if isinstance(p.size, tuple):
        return p.size[1], p.size[0]
    if p.resize != "shortest":
        return p.size, p.size
    width, height = size
    # Truncation, not rounding, of the long side: as torchvision.
    if width <= height:
        return p.size, int(p.size * height / width)
    return int(p.size * width / height), p.size


def _pad_to_square(image: Image.Image, fill: int | tuple[int, ...]) -> Image.Image:
    side = max(image.size)
    square = Image.new(image.mode, (side, side), fill)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _centre_crop(image: Image.Image, side: int) -> Image.Image:
    # round() to the even number at .5, as torchvision.
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))
