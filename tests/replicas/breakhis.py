"""BreakHis: the 82 slide folders with their own numbers of images at four magnifications.

Slides and counts are those of the release; files of a slide are numbered from 1 without the holes that
some have. Slide 13412 lies under ductal and lobular carcinoma with the same pictures.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.replicas import pictures
from tests.replicas.writing import litter, scaled, write

TOP = "BreaKHis_v1"
MAGNIFICATIONS = (40, 100, 200, 400)
FOLDERS = {
    "A": ("benign", "adenosis"),
    "F": ("benign", "fibroadenoma"),
    "PT": ("benign", "phyllodes_tumor"),
    "TA": ("benign", "tubular_adenoma"),
    "DC": ("malignant", "ductal_carcinoma"),
    "LC": ("malignant", "lobular_carcinoma"),
    "MC": ("malignant", "mucinous_carcinoma"),
    "PC": ("malignant", "papillary_carcinoma"),
}
#: Accession number of a slide : images at 40X / 100X / 200X / 400X.
SLIDES = {
    "A": "14-22549AB:29/30/32/30 14-22549CD:35/36/31/30 14-22549G:35/34/32/29 14-29960CD:15/13/16/17",
    "F": "14-14134:36/31/38/37 14-14134E:29/32/21/12 14-21998CD:37/31/37/32 14-21998EF:31/33/29/28 "
    "14-23060AB:23/22/18/18 14-23060CD:14/11/16/16 14-23222AB:17/16/17/18 14-25197:22/33/32/33 "
    "14-29960AB:18/15/18/17 14-9133:26/36/38/26",
    "PT": "14-21998AB:58/66/52/59 14-22704:38/39/42/39 14-29315EF:13/16/14/17",
    "TA": "14-13200:15/14/21/15 14-15275:12/14/12/15 14-16184:39/34/35/24 14-16184CD:35/37/23/29 "
    "14-19854C:16/16/16/16 14-21978AB:16/18/17/14 14-3411F:16/17/16/17",
    "DC": "14-10926:11/10/9/9 14-11031:14/17/14/15 14-11520:25/26/24/23 14-11951:27/25/28/20 "
    "14-12312:32/41/35/38 14-13412:32/33/32/26 14-13993:37/42/34/32 14-14015:18/27/30/20 "
    "14-14926:20/19/18/16 14-14946:31/32/34/34 14-15572:23/23/19/15 14-15696:23/23/22/15 "
    "14-15792:14/14/12/15 14-16188:24/19/21/23 14-16336:13/19/19/9 14-16448:11/14/13/15 "
    "14-16601:12/10/10/13 14-16716:38/36/34/29 14-16875:14/22/17/8 14-17614:39/29/33/28 "
    "14-17901:26/26/24/28 14-17915:26/16/21/16 14-18650:29/22/28/29 14-20629:36/33/32/24 "
    "14-20636:25/37/27/22 14-2523:10/23/18/24 14-2773:30/41/35/38 14-2980:20/25/21/18 "
    "14-2985:20/11/14/14 14-3909:26/26/29/14 14-4364:1/10/25/8 14-4372:21/22/17/24 14-5287:23/21/21/23 "
    "14-5694:22/21/21/26 14-5695:23/21/22/24 14-6241:32/21/12/13 14-8168:10/10/9/9 14-9461:26/36/62/31",
    "LC": "14-12204:20/31/28/24 14-13412:32/33/32/26 14-15570:51/54/55/41 14-15570C:31/35/30/29 "
    "14-16196:22/17/18/17",
    "MC": "14-10147:15/12/22/15 14-12773:26/25/21/18 14-13413:29/41/23/26 14-13418DE:15/15/14/11 "
    "14-16456:46/50/47/35 14-18842:15/22/16/9 14-18842D:16/16/16/16 14-19979:26/27/21/24 "
    "14-19979C:17/14/16/15",
    "PC": "14-12465:21/21/19/13 14-15687B:17/16/14/15 14-15704:30/29/33/35 14-19440:35/38/33/36 "
    "14-9146:23/22/21/24 15-190EF:19/16/15/15",
}


def make(
    root: Path, scale: float = 1.0, traps: bool = True, doubled: bool = False
) -> Counter[tuple[str, int]]:
    """Images per subtype code and magnification, under the folder TOP; ``doubled``: twice, as on Kaggle."""
    top = root / TOP / TOP if doubled else root / TOP
    written: Counter[tuple[str, int]] = Counter()
    for code, slides in SLIDES.items():
        first, second = FOLDERS[code]
        for slide in slides.split():
            accession, counts = slide.split(":")
            stem = f"SOB_{first[0].upper()}_{code}"
            folder = top / "histology_slides/breast" / first / "SOB" / second / f"{stem}_{accession}"
            for magnification, n in zip(MAGNIFICATIONS, map(int, counts.split("/")), strict=True):
                for number in range(1, scaled(n, scale) + 1):
                    file = f"{stem}-{accession}-{magnification}-{number:03d}.png"
                    seed = f"breakhis{accession}-{magnification}-{number}"  # 13412 is twice the same
                    write(folder / f"{magnification}X" / file, pictures.png(seed))
                written[code, magnification] += scaled(n, scale)
    if traps:
        write(top / "README.txt", b"BreaKHis")
        litter(top / "histology_slides/breast/benign")
    if doubled:
        write(root / "Folds.csv", b"fold,mag,grp,filename\n")
    return written
