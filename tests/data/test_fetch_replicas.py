"""The eight data sets as people have them: published archives, with and without extra folders, and clones."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from tests.replicas import (
    brain_mr,
    breakhis,
    breastus,
    deepdrid,
    hicervix,
    isic2019,
    medmnist,
    sars_cov2_ct,
)  # fmt: skip
from tests.replicas.reading import CARDS

from discern.data.adapters import scan
from discern.data.originals.fetch import fetch_dataset, missing

SCALE = 0.01


def packed(folder, archive, top=""):
    """All of ``folder`` as an archive beside it, below the folder ``top``; the folder goes away."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, Path(top) / path.relative_to(folder))
    shutil.rmtree(folder)
    return archive


def _brain_mr(root):
    """Two archives, as the hub has them."""
    brain_mr.make(root, SCALE)
    for part in ("Training", "Testing"):
        packed(root / part, root / f"{part}.zip", part)
    return root


def _brain_mr_kaggle(root):
    brain_mr.make(root / "x", SCALE)
    return packed(root / "x", root / "archive.zip")


def _sars(root):
    sars_cov2_ct.make(root / "x", SCALE)
    return packed(root / "x", root / "archive.zip", "sarscov2-ctscan-dataset")


def _pneumoniamnist(root):
    medmnist.make(root, "pneumoniamnist", scale=SCALE)
    return root / "pneumoniamnist_224.npz"


def _busi_folder(root):
    breastus.make(root, SCALE)
    return root / "Dataset_BUSI_with_GT"


def _busi_zip(root):
    breastus.make(root / "x", SCALE)
    return packed(root / "x", root / "Dataset_BUSI_with_GT.zip", "Dataset_BUSI_with_GT")


def _breakhis(root):
    breakhis.make(root / "x", SCALE)
    archive = shutil.make_archive(str(root / "BreaKHis_v1"), "gztar", root / "x")
    shutil.rmtree(root / "x")
    return Path(archive)


def _breakhis_kaggle(root):
    breakhis.make(root, SCALE, doubled=True)
    return root


def _hicervix(root):
    """Sheets beside an archive for each part, in which the pictures lie without a folder."""
    hicervix.make(root, SCALE)
    for part in hicervix.PARTS:
        packed(root / part, root / f"{part}.zip")
    return root


def _deepdrid(root):
    deepdrid.make(root / "DeepDRiD", SCALE)
    return root


def _isic(root):
    isic2019.make(root, SCALE)
    packed(
        root / "ISIC_2019_Training_Input", root / "ISIC_2019_Training_Input.zip", "ISIC_2019_Training_Input"
    )
    return root


def _isic_kaggle(root):
    isic2019.make(root, SCALE, doubled=True)
    return root


CASES = [
    ("brain_mr", _brain_mr), ("brain_mr", _brain_mr_kaggle), ("sars_cov2_ct", _sars),
    ("pneumoniamnist", _pneumoniamnist), ("breastus", _busi_folder), ("breastus", _busi_zip),
    ("breakhis", _breakhis), ("breakhis", _breakhis_kaggle), ("hicervix", _hicervix),
    ("deepdrid", _deepdrid), ("isic2019", _isic), ("isic2019", _isic_kaggle),
]  # fmt: skip


def without_digests(source):
    """Those of the cards are the true archives'."""
    fields = {"sha256", "md5"} & type(source).model_fields.keys()
    return source.model_copy(update={f: type(source).model_fields[f].get_default() for f in fields})


@pytest.mark.parametrize(("name", "make"), CASES, ids=[make.__name__[1:] for _, make in CASES])
def test_what_people_have_is_found_and_read(name, make, tmp_path):
    card = CARDS[name].model_copy(update={"source": [without_digests(s) for s in CARDS[name].source]})
    place, record = make(tmp_path / "mine"), tmp_path / "project" / "fetched.json"
    before = {p: os.stat(p).st_mtime_ns for p in (tmp_path / "mine").rglob("*")}
    assert missing(card, place, record) is None
    fetch_dataset(card, place, tmp_path / "downloads", record)
    assert {p: os.stat(p).st_mtime_ns for p in (tmp_path / "mine").rglob("*")} == before
    root = Path(json.loads(record.read_text())["root"])
    rows = scan(card, root).rows
    assert len(rows) >= len(card.classes)
    assert all((root / row.path.partition("#")[0]).is_file() for row in rows)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_every_card_says_where_its_data_are_to_be_had(name, tmp_path):
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "letter.txt").touch()
    text = missing(CARDS[name], tmp_path / "wrong")
    for part in ("looked for", "letter.txt", "get it from http", str(tmp_path / "wrong")):
        assert part in text
