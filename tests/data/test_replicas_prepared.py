"""Replicas through the whole preparation: placed by hand, found, decoded, compared with the card."""

import shutil

import pytest
from tests.replicas import brain_mr, breakhis, breastus, deepdrid, hicervix, isic2019, medmnist, sars_cov2_ct
from tests.replicas.reading import CARDS, prepared, sized
from tests.replicas.writing import write

from discern.errors import DiscernError


def test_brain_mr_at_true_counts(tmp_path):
    brain_mr.make(tmp_path / "place")
    rows, metadata, audit = prepared(CARDS["brain_mr"], tmp_path / "place", tmp_path)
    assert metadata["counts"] == brain_mr.COUNTS["Training"]
    assert {row["mode"] for row in rows} == {"RGB", "L"}
    assert audit["crossing_labels"] == 0


def test_sars_cov2_ct_with_an_image_more(tmp_path, caplog):
    sars_cov2_ct.make(tmp_path / "place", complete=True)
    rows, metadata, _ = prepared(CARDS["sars_cov2_ct"], tmp_path / "place", tmp_path)
    assert metadata["counts"] == {"non-COVID": 1230, "COVID": 1252}
    assert {row["mode"] for row in rows} == {"RGB", "RGBA", "L"}
    assert "the variant of 2482 images" in caplog.text


def test_breastus_with_merged_masks_and_its_lists(tmp_path):
    breastus.make(tmp_path / "place")
    rows, _, _ = prepared(CARDS["breastus"], tmp_path / "place", tmp_path / "base")
    assert len(rows) == 780
    assert all(row["mask_path"] for row in rows)
    for name in ("breastus@no_axilla", "breastus@curated"):
        rows, metadata, _ = prepared(CARDS[name], tmp_path / "place", tmp_path / name)
        assert len(rows) == CARDS[name].n
        assert len(metadata["dropped"]) == 780 - CARDS[name].n
        assert metadata["counts"] == {entry.name: entry.count for entry in CARDS[name].classes}


def test_deepdrid_at_true_counts(tmp_path):
    written = deepdrid.make(tmp_path / "place")
    rows, metadata, _ = prepared(CARDS["deepdrid"], tmp_path / "place", tmp_path)
    assert list(metadata["counts"].values()) == written["training"]
    assert len({row["group"] for row in rows}) == 300


def test_pneumoniamnist_at_its_smallest_size(tmp_path):
    # The archive's own digest is another, as its images are; a copy of the card leaves it out.
    medmnist.make(tmp_path / "place", "pneumoniamnist", 28)
    card = CARDS["pneumoniamnist@px28"]
    card = card.model_copy(update={"source": [card.source[0].model_copy(update={"md5": None})]})
    rows, metadata, _ = prepared(card, tmp_path / "place", tmp_path)
    assert metadata["counts"] == {"normal": 1214, "pneumonia": 3494}
    assert rows[0]["image_id"] == "train_00000"


def test_pneumoniamnist_of_another_digest_is_refused(tmp_path):
    medmnist.make(tmp_path / "place", "pneumoniamnist", 28, scale=0.01)
    with pytest.raises(DiscernError, match="28209eda62fecd6e6a2d98b1501bb15f"):
        prepared(CARDS["pneumoniamnist@px28"], tmp_path / "place", tmp_path)


def test_breakhis_without_one_copy_of_a_slide(tmp_path):
    written = breakhis.make(tmp_path / "place", scale=0.05)
    benign = sum(n for (code, _), n in written.items() if code in ("A", "F", "PT", "TA"))
    both = {"benign": benign, "malignant": sum(written.values()) - benign}
    rows, _, audit = prepared(sized("breakhis", both), tmp_path / "place", tmp_path / "base")
    twice = [cluster for cluster in audit["duplicates"] if "14-13412" in cluster["image_ids"][0]]
    assert len(twice) == sum(row["group"] == "14-13412" for row in rows) // 2 > 0
    one = both | {"malignant": both["malignant"] - len(twice)}
    rows, metadata, _ = prepared(sized("breakhis@without_13412", one), tmp_path / "place", tmp_path / "one")
    assert len(metadata["dropped"]) == len(twice)
    assert not any("DC-14-13412" in row["image_id"] for row in rows)


def test_hicervix_and_isic2019_at_a_smaller_scale(tmp_path):
    written = hicervix.make(tmp_path / "cells", scale=0.02, parts=["train"])["train"]
    rows, metadata, _ = prepared(sized("hicervix", written), tmp_path / "cells", tmp_path / "a")
    assert metadata["counts"] == written
    assert metadata["classes"][13] == "AGC"
    written = isic2019.make(tmp_path / "skin", scale=0.02)
    rows, metadata, _ = prepared(sized("isic2019", written), tmp_path / "skin", tmp_path / "b")
    assert metadata["counts"] == written
    assert any(row["group"] is None for row in rows)


@pytest.mark.full
@pytest.mark.parametrize("module", [brain_mr, breakhis, breastus, deepdrid, hicervix, isic2019, sars_cov2_ct])
def test_every_reading_at_true_counts(module, tmp_path):
    module.make(tmp_path / "place")
    base = module.__name__.rsplit(".")[-1]
    for name in [n for n in CARDS.selectable() if n.split("@")[0] == base]:
        rows, metadata, _ = prepared(CARDS[name], tmp_path / "place", tmp_path)
        assert len(rows) == CARDS[name].n
        assert metadata["counts"] == {entry.name: entry.count for entry in CARDS[name].classes}


@pytest.mark.parametrize("levels", ["", "downloads"])
@pytest.mark.parametrize("doubled", [False, True])
def test_ids_do_not_depend_on_folders_above(levels, doubled, tmp_path):
    written = breakhis.make(tmp_path / "place" / levels, scale=0.01, doubled=doubled)
    counts = {"benign": 0, "malignant": 0}
    for (code, _), n in written.items():
        counts[breakhis.FOLDERS[code][0]] += n
    rows, _, _ = prepared(sized("breakhis", counts), tmp_path / "place", tmp_path)
    first = "benign/SOB/adenosis/SOB_B_A_14-22549AB/100X/SOB_B_A-14-22549AB-100-001"
    assert rows[0]["image_id"] == first


@pytest.mark.parametrize("doubled", [False, True])
def test_isic2019_with_the_folder_in_one_of_its_own_name(doubled, tmp_path):
    written = isic2019.make(tmp_path / "place", scale=0.002, doubled=doubled)
    rows, _, _ = prepared(sized("isic2019", written), tmp_path / "place", tmp_path)
    assert len(rows) == sum(written.values())


def test_the_folder_that_a_person_points_to_may_be_any_of_several(tmp_path):
    grades = deepdrid.make(tmp_path / "DeepDRiD", scale=0.1)["training"]
    counts = dict(zip(CARDS["deepdrid"].class_names, grades, strict=True))
    card = sized("deepdrid", counts)
    ids = [
        [row["image_id"] for row in prepared(card, place, tmp_path / str(i))[0]]
        for i, place in enumerate([tmp_path / "DeepDRiD", tmp_path / "DeepDRiD" / deepdrid.TOP])
    ]
    assert ids[0] == ids[1]


def damage_brain(place, what):
    folder = place / "Training/glioma_tumor"
    if what == "a class folder too many":
        write(place / "Training/metastasis/x (1).jpg", (folder / "gg (1).jpg").read_bytes())
    elif what == "a missing file":
        (folder / "gg (2).jpg").unlink()
    elif what == "a file without bytes":
        (folder / "gg (3).jpg").write_bytes(b"")
    elif what == "half a file":
        content = (folder / "gg (4).jpg").read_bytes()
        (folder / "gg (4).jpg").write_bytes(content[: len(content) - 40])
    elif what == "a class folder missing":
        shutil.rmtree(place / "Training/no_tumor")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("a class folder too many", r"unknown labels?:\n.*'metastasis'"),
        ("a missing file", r"'glioma_tumor': 16 images, card says 17"),
        ("a file without bytes", r"gg \(3\)"),
        ("half a file", r"gg \(4\)"),
        ("a class folder missing", r"no_tumor"),
    ],
)
def test_what_is_wrong_is_named(what, message, tmp_path):
    written = brain_mr.make(tmp_path / "place", scale=0.02)["Training"]
    assert written["glioma_tumor"] == 17
    damage_brain(tmp_path / "place", what)
    with pytest.raises(DiscernError, match=message):
        prepared(sized("brain_mr", written), tmp_path / "place", tmp_path)


def test_labels_that_do_not_exist_are_named(tmp_path):
    deepdrid.make(tmp_path / "place", scale=0.05)
    table = tmp_path / "place" / deepdrid.TOP / "regular-fundus-training/regular-fundus-training.csv"
    lines = table.read_text().splitlines()
    lines[3] = lines[3].replace(",1,0,,", ",1,5,,").replace(",1,,0,", ",1,,5,")
    table.write_text("\n".join(lines))
    with pytest.raises(DiscernError, match="'5' \\(1 images"):
        prepared(CARDS["deepdrid"], tmp_path / "place", tmp_path)


def test_a_row_without_its_image_and_an_eye_with_two_grades_are_named(tmp_path):
    deepdrid.make(tmp_path / "place", scale=0.05)
    part = tmp_path / "place" / deepdrid.TOP / "regular-fundus-training"
    (part / "Images/3/3_l2.jpg").unlink()
    with pytest.raises(DiscernError, match=r"3_l2\.jpg"):
        prepared(CARDS["deepdrid"], tmp_path / "place", tmp_path)
    table = part / "regular-fundus-training.csv"
    table.write_text(table.read_text().replace(",1,0,,", ",1,0,1,", 1))
    with pytest.raises(DiscernError, match="2 of left_eye_DR_Level, right_eye_DR_Level are filled"):
        prepared(CARDS["deepdrid"], tmp_path / "place", tmp_path)


def test_other_counts_are_explained_by_class(tmp_path):
    hicervix.make(tmp_path / "place", scale=0.01, parts=["train"])
    with pytest.raises(DiscernError, match="class 'Normal': 25 images, card says 2409"):
        prepared(CARDS["hicervix"], tmp_path / "place", tmp_path)
