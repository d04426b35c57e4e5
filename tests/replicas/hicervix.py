"""HiCervix: three parts with a sheet each, a tree of classes with empty cells, UUIDs for names."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

from tests.replicas import pictures
from tests.replicas.writing import litter, scaled, sheet, write

HEADER = ["image_name", "class_name", "class_id", "level_1", "level_2", "level_3"]
#: In order of class_id: class, level 1, level 2, level 3, images of train, val, test.
CLASSES = [
    ("Normal", "negative", "Normal", "", 2409, 354, 691),
    ("ECC", "negative", "ECC", "", 1601, 223, 448),
    ("RPC", "negative", "RPC", "", 1459, 191, 461),
    ("MPC", "negative", "MPC", "", 1126, 151, 314),
    ("PG", "negative", "PG", "", 1093, 143, 327),
    ("Atrophy", "negative", "Atrophy", "", 1049, 138, 297),
    ("EMC", "negative", "EMC", "", 1098, 151, 280),
    ("HCG", "negative", "HCG", "", 625, 84, 178),
    ("ASC-US", "ASC", "ASC-US", "", 1762, 284, 553),
    ("LSIL", "ASC", "LSIL", "", 1208, 188, 348),
    ("ASC-H", "ASC", "ASC-H", "", 977, 152, 308),
    ("HSIL", "ASC", "HSIL", "", 1369, 203, 416),
    ("SCC", "ASC", "SCC", "", 765, 105, 202),
    ("AGC", "AGC", "", "", 1491, 191, 407),
    ("AGC-NOS", "AGC", "AGC-NOS", "", 1535, 229, 441),
    ("AGC-FN", "AGC", "AGC-FN", "", 783, 113, 218),
    ("ADC", "AGC", "ADC", "", 936, 118, 257),
    ("AGC-ECC-NOS", "AGC", "AGC-NOS", "AGC-ECC-NOS", 762, 114, 189),
    ("AGC-EMC-NOS", "AGC", "AGC-NOS", "AGC-EMC-NOS", 170, 27, 56),
    ("ADC-ECC", "AGC", "ADC", "ADC-ECC", 169, 25, 50),
    ("ADC-EMC", "AGC", "ADC", "ADC-EMC", 77, 10, 21),
    ("FUNGI", "microbe", "FUNGI", "", 1453, 204, 390),
    ("ACTINO", "microbe", "ACTINO", "", 1379, 207, 432),
    ("TRI", "microbe", "TRI", "", 1213, 170, 314),
    ("HSV", "microbe", "HSV", "", 872, 125, 251),
    ("CC", "microbe", "CC", "", 779, 118, 202),
]
PARTS = ("train", "val", "test")


def make(
    root: Path, scale: float = 1.0, traps: bool = True, parts: Iterable[str] = PARTS
) -> dict[str, dict[str, int]]:
    """Images per part and class."""
    written: dict[str, dict[str, int]] = {}
    for part in parts:
        rows: list[list[object]] = []
        for index, (name, *levels, train, val, test) in enumerate(CLASSES):
            count = scaled({"train": train, "val": val, "test": test}[part], scale)
            for number in range(count):
                file = f"{uuid.uuid3(uuid.NAMESPACE_OID, f'{part}{name}{number}')}.jpg"
                write(root / part / file, pictures.jpeg(file))
                # A notebook of the authors shows the class HCG with a blank behind it.
                shown = f"{name} " if traps and name == "HCG" and number == 0 else name
                rows.append([file, shown, index, *levels])
            written.setdefault(part, {})[name] = count
        rows.sort(key=lambda row: str(row[0]))  # the release mixes classes
        sheet(root / f"{part}.csv", HEADER, rows, "\r\n" if traps else "\n", bom=traps and part == "train")
        if traps:
            litter(root / part)
    return written
