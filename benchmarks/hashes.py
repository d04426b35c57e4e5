"""What the perceptual hash finds: ``python -m benchmarks.hashes``, after ``make demo``.

Prints two Markdown tables on the pictures of the demonstration: the share of changed copies within a
distance of their originals, and the clusters that each distance makes of the unchanged pictures.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from discern import paths
from discern.config import read_study
from discern.contracts import MANIFEST, read_table
from discern.data.pictures.images import Pictures
from discern.data.preparation.hamming import components
from discern.data.preparation.hashing import Strip, perceptual_hashes, shrink

DISTANCES = (0, 2, 4, 6)
Change = Callable[[Image.Image], Image.Image]


def jpeg(quality: int) -> Change:
    """The picture after JPEG compression."""

    def change(image: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(stream).convert("RGB")

    return change


def resized(factor: float) -> Change:
    """The picture at another size."""
    return lambda image: image.resize((int(image.width * factor), int(image.height * factor)))


def marked(image: Image.Image) -> Image.Image:
    """The picture with two words in its upper left corner."""
    copy = image.copy()
    ImageDraw.Draw(copy).text((2, 2), "LEFT 12", fill=(255, 255, 255))
    return copy


def cropped(image: Image.Image) -> Image.Image:
    """The picture without 2 % at every edge, at its old size."""
    x, y = max(1, image.width // 50), max(1, image.height // 50)
    return image.crop((x, y, image.width - x, image.height - y)).resize(image.size)


CHANGES: dict[str, Change] = {
    "JPEG of quality 90": jpeg(90),
    "JPEG of quality 50": jpeg(50),
    "half the size": resized(0.5),
    "one and a half times the size": resized(1.5),
    "15 % brighter": lambda image: image.point(lambda v: min(255, int(v * 1.15))),
    "two words printed into a corner": marked,
    "2 % cut off all around": cropped,
    "mirrored": ImageOps.mirror,
}


def hashes(images: list[Image.Image]) -> np.ndarray:
    """uint64 (N,)."""
    strip = Strip(len(images))
    for image in images:
        strip.add(shrink(image))
    return perceptual_hashes(strip.pixels())


def clusters(found: np.ndarray, scans: list[str | None], distance: int) -> str:
    """Number of clusters / pictures in the largest / clusters of several scans."""
    labels = components(found, distance)
    sizes = np.bincount(labels)
    several = [np.flatnonzero(labels == c) for c in np.flatnonzero(sizes > 1)]
    across = sum(len({scans[i] for i in members}) > 1 for members in several)
    return f"{len(several)} / {sizes.max()} / {across}" if several else "0"


def main() -> None:
    """Read the demonstration's pictures and print both tables."""
    bits: dict[str, list[np.ndarray]] = {name: [] for name in CHANGES}
    lines = []
    for dataset in read_study("config.yaml", "config/demo.yaml").datasets:
        table, about = read_table(MANIFEST, Path(paths.MANIFEST.format(dataset=dataset)))
        pictures, rows = Pictures.of(about), table.to_pylist()
        images = [pictures.open(row["path"]) for row in rows]
        original = hashes(images)
        for name, change in CHANGES.items():
            bits[name].append(np.bitwise_count(original ^ hashes([change(image) for image in images])))
        scans = [row["volume"] for row in rows]
        cells = [clusters(original, scans, d) for d in DISTANCES[1:]]
        lines.append(f"| {dataset} | {len(rows)} | {len(set(scans))} | {' | '.join(cells)} |")
    print("| change | " + " | ".join(map(str, DISTANCES)) + " |\n|---|" + "---|" * len(DISTANCES))
    for name, found in bits.items():
        every = np.concatenate(found)
        print(f"| {name} | " + " | ".join(f"{(every <= d).mean():.2f}" for d in DISTANCES) + " |")
    print(
        "\n| data set | pictures | scans | "
        + " | ".join(map(str, DISTANCES[1:]))
        + " |\n|---|---|---|---|---|---|"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
