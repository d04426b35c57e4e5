"""ISIC 2019: one-hot sheet, metadata with lesions, ids with a suffix, two files that are no images.

Numbers of images, lesions and images without lesion per class, and of lesions with several images, are
those of the release; which image has which lesion is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.replicas import pictures
from tests.replicas.writing import litter, scaled, sheet, write

FOLDER = "ISIC_2019_Training_Input"
GROUND_TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
#: Class: images, lesions (an image without lesion_id counts as one), images without lesion_id.
CLASSES = {
    "MEL": (4522, 1676, 337),
    "NV": (12875, 8644, 1549),
    "BCC": (3323, 1310, 0),
    "AK": (867, 324, 0),
    "BKL": (2624, 1467, 198),
    "DF": (239, 113, 0),
    "VASC": (253, 135, 0),
    "SCC": (628, 262, 0),
}
SEVERAL, LARGEST = 5059, 31  # lesions with several images; images of the largest
DOWNSAMPLED, DOWNSAMPLED_MISSING = 2074, 1258


def make(root: Path, scale: float = 1.0, traps: bool = True, doubled: bool = False) -> dict[str, int]:
    """Images per class; ``doubled``: the folder lies in one of its own name."""
    images = [(name, lesion) for name in CLASSES for lesion in _kept(name, scale)]
    order = sorted(range(len(images)), key=lambda i: (i * 7919) % (len(images) or 1))  # classes mixed
    truth, metadata, written = [], [], dict.fromkeys(CLASSES, 0)
    folder = root / FOLDER / FOLDER if doubled else root / FOLDER
    missing = other = 0
    for number, index in enumerate(order):
        name, lesion = images[index]
        missing, other = missing + (not lesion), other + bool(lesion)
        small = missing <= DOWNSAMPLED_MISSING if not lesion else other <= DOWNSAMPLED - DOWNSAMPLED_MISSING
        image = f"ISIC_{number:07d}{'_downsampled' if small else ''}"
        write(folder / f"{image}.jpg", pictures.jpeg(image))
        truth.append([image, *("1.0" if c == name else "0.0" for c in CLASSES), "0.0"])
        metadata.append([image, "55.0", "anterior torso" if number % 3 else "", lesion, "female"])
        written[name] += 1
    sheet(root / GROUND_TRUTH, ["image", *CLASSES, "UNK"], truth, "\r\n" if traps else "\n")
    sheet(root / METADATA, ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"], metadata)
    for file in ("ATTRIBUTION.txt", "LICENSE.txt"):
        write(folder / file, b"CC-BY-NC\n")
    if traps:
        litter(folder)
    return written


def _kept(name: str, scale: float) -> list[str]:
    """Lesion of each image of a class, '' for none; at a smaller scale every so manyth."""
    lesions = list(_lesions(name))
    wanted = scaled(len(lesions), scale)
    return [lesions[i * len(lesions) // wanted] for i in range(wanted)]


def _lesions(name: str) -> Iterator[str]:
    images, groups, missing = CLASSES[name]
    yield from [""] * missing
    images, groups = images - missing, groups - missing
    several = _several()[name]
    extra = images - groups
    for number in range(groups):
        members = 1 + _share(extra, several, number, LARGEST if name == "MEL" else 0)
        yield from [f"{_site(name, number)}_{number:07d}_{name}"] * members


def _share(extra: int, several: int, number: int, largest: int) -> int:
    """Further images of lesion ``number``, of which the first ``several`` have some."""
    if number >= several:
        return 0
    if largest:
        return largest - 1 if number == 0 else _share(extra - largest + 1, several - 1, number - 1, 0)
    return extra // several + (number < extra % several)


def _several() -> dict[str, int]:
    """Lesions with several images per class, in proportion to the further images; their sum is SEVERAL."""
    extra = {name: images - groups for name, (images, groups, _) in CLASSES.items()}
    share = {name: n * SEVERAL // sum(extra.values()) for name, n in extra.items()}
    share["NV"] += SEVERAL - sum(share.values())
    return share


def _site(name: str, number: int) -> str:
    return (
        ("MSK4" if name in ("MEL", "NV", "BKL") else "BCN") if number % 8 == 0 else ("BCN", "HAM")[number % 2]
    )
