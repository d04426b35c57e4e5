"""DeepDRiD: a sheet per part with Windows paths, one grade column per eye, and odd view numbers.

Patients of both parts and the odd files are those of the release; which eye has which grade is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.replicas import pictures
from tests.replicas.writing import litter, scaled, sheet, write

TOP = "regular_fundus_images"
HEADER = [
    "patient_id", "image_id", "image_path", "Overall quality", "left_eye_DR_Level", "right_eye_DR_Level",
    "patient_DR_Level", "Clarity", "Field definition", "Artifact",
]  # fmt: skip
#: Images per grade; two of each eye.
COUNTS = {"training": [540, 140, 234, 214, 72], "validation": [174, 46, 92, 68, 20]}
PATIENTS = {
    "training": "1-264 266 268-276 278-293 295 297 302 308 312-313 324 327 329-330",
    "validation": "265 267 277 294 296 298-301 303-307 309-311 314-323 325-326 328 331-346 348-352 355-365 "
    "367 369-370 372-376 378-382 385 388 390 392-395 397 399-402 404-407 410 413-416 422 430-431 433",
}
#: Files of the left and of the right eye where they are not l1, l2 and r1, r2: the letter may be wrong.
ODD = {
    56: (("l1", "r3"), ("l3", "r2")),
    77: (("l3", "r4"), ("l4", "r3")),
    164: (("l3", "r4"), ("r1", "r3")),
    167: (("l2", "l3"), ("r2", "r3")),
}


def patients(part: str) -> list[int]:
    """Patient numbers of a part."""
    ranges = [part.split("-") for part in PATIENTS[part].split()]
    return [number for r in ranges for number in range(int(r[0]), int(r[-1]) + 1)]


def make(root: Path, scale: float = 1.0, traps: bool = True) -> dict[str, list[int]]:
    """Images per part and grade, under the folder TOP; at a smaller scale the first patients alone."""
    written = {}
    for part in COUNTS:
        folder = root / TOP / f"regular-fundus-{part}"
        chosen = patients(part)[: scaled(len(patients(part)), scale)]
        rows = list(_rows(part, chosen))
        for row in rows:
            write(folder / "Images" / str(row[0]) / f"{row[1]}.jpg", pictures.jpeg(f"deepdrid{row[1]}"))
        sheet(folder / f"regular-fundus-{part}.csv", HEADER, rows, "\r\n")
        sheet(folder / f"regular-fundus-source-{part}.csv", ["image_id", "source"], [[rows[0][1], "Nation"]])
        grades = [int(float(row[4] or row[5])) for row in rows]
        written[part] = [grades.count(grade) for grade in range(5)]
    _others(root, traps)
    return written


def _grades(part: str) -> dict[int, tuple[int, int]]:
    """Grade of the left and of the right eye of every patient; most are equal, grades are mixed."""
    eyes = [grade for grade, n in enumerate(COUNTS[part]) for _ in range(n // 2)]
    numbers = patients(part)
    order = sorted(range(len(numbers)), key=lambda i: i * 131 % len(numbers))
    grades = {
        numbers[i]: pair for i, pair in zip(order, zip(eyes[::2], eyes[1::2], strict=True), strict=True)
    }
    if part == "training":  # the eyes of patient 56 have different grades
        one = next(p for p, pair in grades.items() if pair == (1, 1) and p != 56)
        none = next(p for p, pair in grades.items() if pair == (0, 0) and p != 56)
        grades[none], grades[56], grades[one] = grades[56], (1, 0), (0, 1)
    return grades


def _rows(part: str, chosen: list[int]) -> Iterator[list[str]]:
    pairs = _grades(part)
    for patient in chosen:
        views = ODD.get(patient, (("l1", "l2"), ("r1", "r2")))
        for eye in (0, 1):
            for view in views[eye]:
                # One sheet was saved with whole numbers, the other as a program with empty cells does.
                grade = f"{pairs[patient][eye]}" if part == "training" else f"{pairs[patient][eye]}.0"
                path = f"\\regular-fundus-{part}\\{patient}\\{patient}_{view}.jpg"
                columns = [grade, ""] if eye == 0 else ["", grade]
                overall = str(max(pairs[patient]))
                yield [str(patient), f"{patient}_{view}", path, "1", *columns, overall, "8", "10", "0"]


def _others(root: Path, traps: bool) -> None:
    """What else the repository holds."""
    online = root / TOP / "Online-Challenge1&2-Evaluation"
    write(online / "Images/347/347_l1.jpg", pictures.jpeg("online"))
    sheet(online / "Challenge1_upload.csv", ["image_id", "DR_Level"], [["347_l1", ""]])
    write(online / "Challenge1_labels.xlsx", b"PK\3\4 no sheet")
    write(root / "ultra-widefield_images/ultra-widefield-training/Images/1/1_01.jpg", pictures.jpeg("uwf"))
    write(root / "README.md", b"# DeepDRiD\n")
    if traps:
        litter(root / TOP / "regular-fundus-training/Images/1")
