"""One explicit transform from image file to encoder input, spelt out in the model card.

Libraries disagree silently here: their processors differ in back end, antialiasing and the moment of
the RGB conversion. This transform needs Pillow and NumPy only, so every environment computes the same
pixels; on 8-bit pictures it is bit-equal to torchvision's Resize, CenterCrop, ToTensor and Normalize.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from discern.encoders.describe import pad_colour
from discern.encoders.preprocess_resize import frame_mask, frame_picture
from discern.model_card import Preprocess

#: Weights of red, green and blue in a grey value (ITU-R 601), as Pillow's.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]


def apply(image: Image.Image, p: Preprocess, out: np.ndarray | None = None) -> np.ndarray:
    """Picture of any size and mode -> float32 (C, *input_size); C is 1 for grey, else 3.

    ``out``: where the result is written, of that shape and type in any memory layout.
    """
    return scaled(framed(image, p), p, out)


def framed(image: Image.Image, p: Preprocess) -> np.ndarray:
    """Picture of any size and mode -> its pixels in the encoder's frame, (3, h, w), uint8 or float32.

    All that costs time: what follows is arithmetic on a small array.
    """
    # Pillow would copy all pixels of a picture that is RGB already.
    picture = image if image.mode == "RGB" else image.convert("RGB")
    if p.prepare == "visionunite":
        picture = _visionunite(picture)
    return frame_picture(picture, p, pad_colour(p))


def scaled(pixels: np.ndarray, p: Preprocess, out: np.ndarray | None = None) -> np.ndarray:
    """What ``framed`` gave -> float32 (C, h, w), scaled and normalised; ``out`` as in ``apply``."""
    if p.channels == "grey":
        pixels = _grey(pixels)
    elif p.channels == "bgr":
        pixels = pixels[::-1]
    count = len(pixels)
    # In-place float32 arithmetic in torchvision's order keeps the last bit equal to it.
    result: np.ndarray = np.empty(pixels.shape, np.float32) if out is None else out
    np.copyto(result, pixels)
    result /= np.float32(p.scale)
    if p.stretch:
        _stretch(result)
    result -= np.asarray(p.mean[:count], np.float32)[:, None, None]
    result /= np.asarray(p.std[:count], np.float32)[:, None, None]
    return result


def view(image: Image.Image, p: Preprocess) -> Image.Image:
    """The RGB picture that the encoder sees, before scaling: ``input_size`` pixels, 8 bits."""
    pixels = framed(image, p)
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if p.channels == "grey":
        pixels = np.repeat(_grey(pixels), 3, axis=0)
    mode = "HSV" if p.prepare == "visionunite" else "RGB"
    # Merged band by band, because Pillow is about to lose the mode argument of fromarray.
    return Image.merge(mode, [Image.fromarray(np.ascontiguousarray(band)) for band in pixels]).convert("RGB")


def apply_mask(mask: Image.Image | np.ndarray, p: Preprocess) -> np.ndarray:
    """Mask of the image file (bool (H, W), or a picture whose white is inside) -> bool (h, w).

    The result lies in the encoder's frame. Nearest neighbour; what was padded is outside.
    """
    if isinstance(mask, Image.Image):
        return frame_mask(np.asarray(mask.convert("L")) > 127, p)
    return frame_mask(np.asarray(mask, dtype=bool), p)


def _visionunite(image: Image.Image) -> Image.Image:
    """VisionUnite's own step. 8-bit arithmetic wraps there: 255 becomes 0 where the minimum is 0."""
    pixels = np.asarray(ImageEnhance.Contrast(image).enhance(1.3))
    return Image.fromarray(pixels - pixels.min(axis=(0, 1)) + np.uint8(1)).convert("HSV")


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(3, h, w) -> (1, h, w); on 8 bits Pillow's own rounding."""
    if pixels.dtype == np.uint8:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        return np.asarray(picture.convert("L"))[None]
    grey: np.ndarray = (pixels * LUMA).sum(axis=0, keepdims=True)
    return grey


def _stretch(pixels: np.ndarray) -> None:
    """In place: all channels together to 0..1; a picture of one value becomes 0."""
    pixels -= pixels.min()
    pixels /= pixels.max() or np.float32(1)
