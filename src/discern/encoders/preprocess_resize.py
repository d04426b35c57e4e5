"""Geometry of the transform: padding, resize and crop, the same for pictures and masks.

Three resizes are in use by the models' authors: Pillow's on 8-bit pictures; the resize of float tensors
with antialiasing, which is Pillow's on float pictures to the last bits; and bilinear between the nearest
pixels alone, TensorFlow's default. All are here with Pillow and NumPy, so that no environment needs more.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from discern.errors import problem
from discern.model_card import Preprocess

Size = tuple[int, int]  # width, height


def frame_picture(image: Image.Image, p: Preprocess, fill: tuple[int, ...]) -> np.ndarray:
    """Three-channel picture -> its pixels in the encoder's frame, (3, h, w), uint8 or float32.

    float32 where the card asks for a resize of float pixels; values keep the range 0..255.
    """
    kind = Image.Resampling[p.interpolation.upper()]
    if p.precision == "uint8" and p.antialias:
        return np.asarray(_frame(image, p, kind, fill)).transpose(2, 0, 1)
    bands = zip(image.split(), fill, strict=True)
    pixels = np.stack([np.asarray(_frame(band.convert("F"), p, kind, value)) for band, value in bands])
    # Truncated, not rounded: what the authors who resize in float and go back to 8 bits do.
    return pixels if p.precision == "float32" else np.clip(pixels, 0, 255).astype(np.uint8)


def frame_mask(inside: np.ndarray, p: Preprocess) -> np.ndarray:
    """bool (H, W) -> bool (h, w) in the encoder's frame by nearest neighbour; padding is outside."""
    picture = Image.fromarray(inside.astype(np.uint8) * 255)
    return np.asarray(_frame(picture, p, Image.Resampling.NEAREST, 0)) > 127


def _frame(
    image: Image.Image, p: Preprocess, kind: Image.Resampling, fill: int | tuple[int, ...]
) -> Image.Image:
    if p.resize == "pad":
        image = _pad_to_square(image, fill)
    if p.resize != "none":
        image = _resize(image, _resized(image.size, p), kind, p.antialias)
    if p.resize == "canvas":
        image = _on_canvas(image, p.size)
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
    width, height = size
    if p.resize == "canvas":
        # Divided twice and truncated, as FLAIR does; a sliver keeps one pixel.
        reduction = max(size) / p.size
        return max(1, int(width / reduction)), max(1, int(height / reduction))
    if p.resize != "shortest":
        return p.size, p.size
    # Truncation, not rounding, of the long side: as torchvision.
    if width <= height:
        return p.size, int(p.size * height / width)
    return int(p.size * width / height), p.size


def _resize(image: Image.Image, size: Size, kind: Image.Resampling, antialias: bool) -> Image.Image:
    if antialias or kind is Image.Resampling.NEAREST:
        return image.resize(size, kind)
    return Image.fromarray(between_nearest(np.asarray(image), size))


def between_nearest(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Bilinear between the four nearest pixel centres, float32 (H, W) -> (h, w); ``size`` is (w, h).

    Every step is in float32 and in TensorFlow's order (``tf.image.resize`` without antialias), because
    a truncation to 8 bits afterwards turns a last bit into a whole grey level.
    """
    left, right, across = _neighbours(pixels.shape[1], size[0])
    upper, lower, down = _neighbours(pixels.shape[0], size[1])
    rows = []
    for row in (pixels[upper], pixels[lower]):
        first = row[:, left]
        rows.append(first + (row[:, right] - first) * across)
    top, bottom = rows
    result: np.ndarray = top + (bottom - top) * down[:, None]
    return result


def _neighbours(pixels: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each wanted pixel its two neighbours and how far it lies from the first, float32."""
    half = np.float32(0.5)
    place = (np.arange(wanted, dtype=np.float32) + half) * np.float32(pixels / wanted) - half
    below = np.floor(place)
    first = np.maximum(below, 0).astype(int)
    second = np.minimum(np.ceil(place), pixels - 1).astype(int)
    return first, second, place - below


def _on_canvas(image: Image.Image, size: int | Size) -> Image.Image:
    side = size if isinstance(size, int) else max(size)
    canvas = Image.new(image.mode, (side, side))  # black
    canvas.paste(image, (0, 0))
    return canvas


def _pad_to_square(image: Image.Image, fill: int | tuple[int, ...]) -> Image.Image:
    side = max(image.size)
    square = Image.new(image.mode, (side, side), fill)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _centre_crop(image: Image.Image, side: int) -> Image.Image:
    # round() to the even number at .5, as torchvision; transformers rounds down, one pixel off.
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))
