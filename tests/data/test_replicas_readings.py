"""Every reading of the eight data sets, on replicas of their layouts at true counts."""

from collections import Counter

import pytest
from tests.replicas import brain_mr, breakhis, breastus, deepdrid, hicervix, isic2019, medmnist, sars_cov2_ct
from tests.replicas.reading import CARDS, expected, groups, labels, pooled, scanned

EIGHT = [
    "brain_mr", "sars_cov2_ct", "pneumoniamnist", "breastus", "breakhis", "hicervix", "deepdrid", "isic2019",
]  # fmt: skip
READINGS = [n for n in CARDS.selectable() if n.split("@")[0] in EIGHT and not CARDS[n].drop]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Data set -> a folder with its replica, made when first asked for."""
    root = tmp_path_factory.mktemp("replicas")
    makers = {
        "brain_mr": brain_mr.make,
        "sars_cov2_ct": sars_cov2_ct.make,
        "breastus": breastus.make,
        "breakhis": breakhis.make,
        "hicervix": lambda place: hicervix.make(place, parts=("train", "val")),
        "deepdrid": deepdrid.make,
        "isic2019": isic2019.make,
        "pneumoniamnist": lambda place: [
            medmnist.make(place, "pneumoniamnist", size) for size in (28, 64, 128, 224)
        ],
    }

    def place(name):
        folder = root / name
        if not folder.exists():
            makers[name](folder)
        return folder

    return place


@pytest.mark.parametrize("name", sorted(READINGS))
def test_counts_are_those_of_the_card(name, places):
    base = name.split("@")[0]
    rows = pooled(name, places(base))
    assert labels(rows) == expected(name)
    assert len(rows) == CARDS[name].n
    assert len({row.image_id for row in rows}) == len(rows)
    if CARDS[name].subset:  # features are those of the card, found by image id
        known = {row.image_id: (row.path, row.group) for row in pooled(base, places(base))}
        assert all(known[row.image_id] == (row.path, row.group) for row in rows)


def test_brain_mr_tells_equal_base_names_apart(places):
    rows = pooled("brain_mr@train_test", places("brain_mr"))
    same = [row for row in rows if row.image_id.endswith("/image(1)")]
    assert len(same) == 5
    assert {row.image_id.split("/")[0] for row in same} == {"Training", "Testing"}
    assert Counter(row.official_split for row in rows) == CARDS["brain_mr"].official_splits


def test_sars_cov2_ct_is_complete_with_either_number(places, tmp_path):
    assert CARDS["sars_cov2_ct"].accepted_n == [2481, 2482]
    sars_cov2_ct.make(tmp_path, complete=True)
    assert labels(pooled("sars_cov2_ct", tmp_path)) == {"COVID": 1252, "non-COVID": 1230}


def test_breastus_links_all_masks(places):
    rows = pooled("breastus", places("breastus"))
    assert sum(len(row.mask_paths) for row in rows) == breastus.MASKS
    several = {row.image_id: row.mask_paths for row in rows if len(row.mask_paths) > 1}
    assert len(several) == 17
    assert [path.rsplit("/")[-1] for path in several["benign/benign (195)"]] == [
        "benign (195)_mask.png",
        "benign (195)_mask_1.png",
        "benign (195)_mask_2.png",
    ]
    upper = next(row for row in rows if row.path.endswith(".PNG"))
    assert upper.mask_paths


@pytest.mark.parametrize(("name", "total"), [("breastus@curated", 450), ("breastus@no_axilla", 753)])
def test_breastus_lists_name_images_of_the_release(name, total, places):
    card, rows = CARDS[name], pooled("breastus", places("breastus"))
    left = [row for row in rows if row.image_id not in card.drop]
    assert set(card.drop) <= {row.image_id for row in rows}
    assert labels(left) == expected(name)
    assert len(left) == total


def test_breakhis_groups_are_accession_numbers(places):
    rows = pooled("breakhis", places("breakhis"))
    assert groups(rows) == 70
    assert len({row.volume for row in rows}) == 82
    letters = {row.volume for row in rows if row.group == "14-22549"}
    assert letters == {"SOB_B_A-14-22549AB", "SOB_B_A-14-22549CD", "SOB_B_A-14-22549G"}
    assert {row.group for row in rows if "15-190EF" in row.path} == {"15-190"}


def test_breakhis_slide_13412_is_there_twice(places):
    rows = pooled("breakhis@subtype", places("breakhis"))
    twice = [row for row in rows if row.group == "14-13412"]
    assert Counter(row.label_name for row in twice) == {"ductal_carcinoma": 123, "lobular_carcinoma": 123}
    one = CARDS["breakhis@without_13412"]
    none = CARDS["breakhis@subtype_without_13412"]
    assert (one.n, none.n) == (7909 - 123, 7909 - 246)
    marks = [pattern.strip("*") for pattern in none.drop]
    assert sum(any(mark in row.image_id for mark in marks) for row in rows) == 246
    assert sum(one.drop[0].strip("*") in row.image_id for row in rows) == 123


def test_hicervix_reads_empty_levels_and_blanks(places):
    found = scanned("hicervix@level_2", places("hicervix"))
    assert found.left_out_labels == {"": 1491}
    assert scanned("hicervix@leaf", places("hicervix")).left_out_labels == {
        "AGC": 1491,
        "AGC-NOS": 1535,
        "ADC": 936,
    }


def test_deepdrid_takes_the_filled_column_and_the_patient(places):
    rows = pooled("deepdrid@train_val", places("deepdrid"))
    assert groups(rows) == 400
    assert set(Counter(row.group for row in rows).values()) == {4}
    assert groups(pooled("deepdrid", places("deepdrid"))) == 300
    # The letter of 56_r3 says right, the sheet has it in the column of the left eye, as 56_l1.
    of_56 = {row.image_id.rsplit("_")[-1]: row.label_name for row in rows if row.group == "56"}
    assert of_56["r3"] == of_56["l1"] == "mild NPDR"
    assert of_56["l3"] == of_56["r2"] == "no apparent retinopathy"


def test_isic2019_groups_are_lesions(places):
    rows = pooled("isic2019", places("isic2019"))
    assert groups(rows) == 13931 == 11847 + 2084
    assert sum(row.group is None for row in rows) == 2084
    assert sum(row.image_id.endswith("_downsampled") for row in rows) == 2074
    per_class = {c: groups([r for r in rows if r.label_name == c]) for c in isic2019.CLASSES}
    assert per_class == {c: n for c, (_, n, _) in isic2019.CLASSES.items()}
    assert max(Counter(row.group for row in rows if row.group).values()) == 31


def test_pneumoniamnist_sizes_are_different_archives(places):
    ids = set()
    for size in (28, 64, 128):
        rows = pooled(f"pneumoniamnist@px{size}", places("pneumoniamnist"))
        ids |= {row.path.split("#")[0] for row in rows}
    assert ids == {"pneumoniamnist.npz", "pneumoniamnist_64.npz", "pneumoniamnist_128.npz"}
