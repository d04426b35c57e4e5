"""Replicas of the sets of Zhong et al. 2025: layouts of their code and of the releases.

Numbers are theirs where they are known. Sheets that they sampled or split are not published; rows here
are made up in their form. Each function returns the images per split and label value.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from tests.replicas import pictures
from tests.replicas.writing import litter, macosx, scaled, sheet, write

Counts = dict[str, Counter[str]]

KERMANY = {
    "train": {"NORMAL": 1341, "PNEUMONIA": 3875},
    "val": {"NORMAL": 8, "PNEUMONIA": 8},
    "test": {"NORMAL": 234, "PNEUMONIA": 390},
}
HAM10000 = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}
CHEXPERT = {"train": 223414, "valid": 234}
CHEXPERT_FINDINGS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
]  # fmt: skip
PAPILA = {"train": 364, "test": 56}
GF3300 = {"train": 2706, "test": 594}
FAIRVLMED = {"train": 8254, "test": 1746}
CAMELYON = 455954
DRISHTI = {"Training": (13, 37), "Test": (18, 33)}  # normal, glaucoma; only the sums 31 and 70 are known


def chestxray_kermany(root: Path, scale: float = 1.0) -> Counts:
    """chest_xray/chest_xray/{train,val,test}/{NORMAL,PNEUMONIA} and __MACOSX."""
    written: Counts = {}
    top = root / "chest_xray/chest_xray"
    for split, classes in KERMANY.items():
        for name, n in classes.items():
            for number in range(scaled(n, scale)):
                file = _kermany(name, number)
                write(top / split / name / file, pictures.jpeg(f"kermany{split}{file}", "L"))
            written.setdefault(split, Counter())[name] = scaled(n, scale)
        litter(top / split)
    macosx(root / "chest_xray", ["chest_xray/train/NORMAL/IM-0000-0001.jpeg"])
    return written


def _kermany(name: str, number: int) -> str:
    """Three images of a child, its number, and the number of the image."""
    if name == "PNEUMONIA":
        return f"person{number // 3}_{'bacteria' if number % 2 else 'virus'}_{number}.jpeg"
    return f"{'NORMAL2-' if number % 2 else ''}IM-{number // 4:04d}-{number % 4:04d}.jpeg"


def ham10000(root: Path, scale: float = 1.0, parts: bool = False) -> Counts:
    """HAM10000_metadata.csv, one folder of images or two, and split files that lack some rows."""
    header = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    rows = [
        [
            f"HAM_{c}{number * 3 // 4:06d}",
            f"ISIC_{24306 + c * 7000 + number:07d}",
            dx,
            "histo",
            "50",
            "male",
            "back",
        ]
        for c, (dx, n) in enumerate(HAM10000.items())
        for number in range(scaled(n, scale))
    ]
    for index, row in enumerate(rows):
        folder = f"HAM10000_images_part_{1 + index % 2}" if parts else "HAM10000_images"
        write(root / folder / f"{row[1]}.jpg", pictures.jpeg(f"ham{row[1]}"))
    sheet(root / "HAM10000_metadata.csv", header, rows)
    sheet(root / "split/train.csv", header, rows[::2])
    sheet(root / "split/test.csv", header, rows[1::4])
    return {"": Counter(row[2] for row in rows), "train": Counter(row[2] for row in rows[::2])}


def chexpert(root: Path, scale: float = 0.001) -> Counts:
    """CheXpert-v1.0-small with empty, certain and uncertain cells; two views of a study."""
    written: Counts = {}
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS]
    for split, first in (("train", 1), ("valid", 64541)):
        rows = []
        for number in range(scaled(CHEXPERT[split], scale)):
            view = "view2_lateral" if number % 2 else "view1_frontal"
            study = f"patient{first + number // 3:05d}/study{1 + number % 3 // 2}"
            path = f"CheXpert-v1.0-small/{split}/{study}/{view}"
            label = ("1.0", "", "0.0", "", "-1.0")[number % 5]
            rows.append([f"{path}.jpg", "Female", "68", "Frontal", "AP", label, *[""] * 13])
            write(root / f"{path}.jpg", pictures.jpeg(path, "L"))
        sheet(root / f"CheXpert-v1.0-small/{split}.csv", header, rows)
        written[split] = Counter(row[5] for row in rows)
    return written


def papila(root: Path, scale: float = 1.0) -> Counts:
    """data/FundusImages with both eyes of each patient, and sheets that split them."""
    written: Counts = {}
    number = 1
    for split, n in PAPILA.items():
        rows = []
        for index in range(scaled(n, scale)):
            number += index % 2 == 0
            file = f"RET{number:03d}{'OS' if index % 2 else 'OD'}.jpg"
            rows.append([f"#{number:03d}", "58", "1", str(int(index % 5 == 0)), file])
            write(root / "data/FundusImages" / file, pictures.jpeg(f"papila{file}"))
        sheet(root / f"split/new_{split}.csv", ["ID", "Age", "Gender", "Diagnosis", "Path"], rows)
        written[split] = Counter(row[3] for row in rows)
    return written


def gf3300(root: Path, scale: float = 1.0, side: int = 8) -> Counts:
    """data/{Training,Test}/data_NNNN.npz with floating-point maps from -2, and sheets by sex."""
    return _harvard(root, GF3300, scale, "data/", 4, side)


def fairvlmed10k(root: Path, scale: float = 1.0) -> Counts:
    """{Training,Test}/slo_fundus_NNNNN.jpg and sheets by sex; answers in either case."""
    return _harvard(root, FAIRVLMED, scale, "", 5, 0)


def fairvlmed10k_release(root: Path, scale: float = 1.0) -> None:
    """The release itself: archives with the picture, folders in another case than in its sheet."""
    rows = []
    for number in range(1, scaled(10000, scale) + 1):
        part = (*["Training"] * 8, "Validation", "Test")[number % 10]
        name = f"data_{number:05d}.npz"
        picture = np.frombuffer(pictures.noise(name, 12 * 8), np.uint8).reshape(12, 8)
        (root / part).mkdir(parents=True, exist_ok=True)
        np.savez(root / part / name, slo_fundus=picture)
        Image.fromarray(picture).save(root / part / f"slo_fundus_{number:05d}.jpg")
        rows.append([name, "56.56", ("no", "yes")[number % 2], part.lower()])
    sheet(root / "ReadMe/data_summary.csv", ["filename", "age", "glaucoma", "use"], rows)


def _harvard(root: Path, sizes: dict[str, int], scale: float, below: str, digits: int, side: int) -> Counts:
    written: Counts = {}
    number = 0
    for split, n in sizes.items():
        rows = []
        for _ in range(scaled(n, scale)):
            number += 1
            folder = "Test" if number % 5 == 0 else "Training"  # the sheets do not follow the folders
            file = f"{'data' if side else 'slo_fundus'}_{number:0{digits}d}.{'npz' if side else 'jpg'}"
            path = root / below / folder / file
            if side:
                _map(path, number, side)
            else:
                write(path, pictures.jpeg(f"harvard{file}", "L"))
            answer = ("no", "yes", "No" if not side else "no")[number % 3]
            rows.append([f"data_{number:0{digits}d}.npz", "56.56", "female", answer, f"{folder}/{file}"])
        sheet(root / f"split/{split}.csv", ["filename", "age", "gender", "glaucoma", "path"], rows)
        written[split] = Counter(row[3].lower() for row in rows)
    return written


def _map(path: Path, number: int, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).uniform(-2, 350, (side, side))
    values[0, 0], values[-1, -1] = -2, 350
    np.savez(path, rnflt=values, md=np.float64(-3.2), glaucoma=number % 2)


def camelyon17(root: Path, scale: float = 0.002) -> Counts:
    """WILDS: metadata.csv without a name for its first column, and patches by patient and node."""
    header = ["", "patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split"]
    rows: list[list[str]] = []
    for number in range(scaled(CAMELYON, scale)):
        patient, node = f"{4 + number % 43:03d}", str(number % 5)
        x, y = str(3328 + number * 32), str(21792 + number % 100)
        name = f"patient_{patient}_node_{node}"
        write(root / "patches" / name / f"patch_{name}_x_{x}_y_{y}.png", pictures.png(f"wilds{number}"))
        row = [patient, node, x, y, str(number % 2), str(number % 50), str(number % 5), str(number % 2)]
        rows.append([str(number), *row])
    sheet(root / "metadata.csv", header, rows)
    sheet(root / "sample3680_train_metadata.csv", header, rows[::5])
    sheet(root / "sample920_test_metadata.csv", header, rows[1::20])
    return {"": Counter(row[5] for row in rows), "3680_train": Counter(row[5] for row in rows[::5])}


def drishti_gs(root: Path) -> Counts:
    """Both parts with their pictures, and labels.csv as the card asks for."""
    rows = []
    number = 0
    for part, (normal, glaucoma) in DRISHTI.items():
        for label in ["Normal"] * normal + ["Glaucomatous"] * glaucoma:
            number += 1
            path = f"{part}/Images/drishtiGS_{number:03d}.png"
            write(root / path, pictures.png(path))
            rows.append([path, label])
        write(root / part / "GT/drishtiGS_001/SoftMap/drishtiGS_001_ODsegSoftmap.png", pictures.mask(part))
    sheet(root / "labels.csv", ["path", "label"], rows)
    return {"": Counter(row[1] for row in rows)}
