"""The data-set cards: what their numbers say agrees, among themselves and with the tables of the replicas."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from discern.adapter_card import Csv
from discern.data.tables import TableRow, cell
from discern.sources import ManualFile, RecipeSource, UrlFile
from tests.replicas import brain_mr, breakhis, deepdrid, hicervix, medmnist
from tests.replicas.reading import CARDS, expected

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = [c.name for c in CARDS.all() if not isinstance(c.source[0], RecipeSource)]
READINGS = [n for n in CARDS.selectable() if "@" in n]
EIGHT = [
    "brain_mr",
    "sars_cov2_ct",
    "pneumoniamnist",
    "breastus",
    "breakhis",
    "hicervix",
    "deepdrid",
    "isic2019",
]
PAGE = (ROOT / "docs/datasets.md").read_text()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_card_says_what_was_read_and_where_it_is_from(name):
    card = CARDS[name]
    assert card.reading, "printed under the tables: which n, which classes, which pool"
    assert card.citation
    assert card.traps
    assert card.group_note
    if card.group_key is None:
        assert card.group_note.startswith("Null"), "the table says that there is no key, and why"
    assert len(card.class_names) == 2 or card.positive_class is None
    assert "reading" not in card.model_fields_set or str(card.n or "") in card.reading.replace(",", "")


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_has_the_numbers_that_it_states(name):
    card = CARDS[name]
    assert card.n is not None
    stated = [int(n.replace(",", "")) for n in re.findall(r"\b\d[\d,]*\b", card.reading)]
    assert card.n in stated, card.reading
    assert len(card.class_names) in stated, card.reading
    assert len(card.class_names) == 2 or card.positive_class is None


@pytest.mark.parametrize("name", PUBLIC + READINGS)
def test_the_pool_is_the_sum_of_its_official_splits(name):
    card = CARDS[name]
    if card.pool is None or not card.official_splits:
        return
    assert set(card.pool) <= set(card.official_splits)
    total = sum(card.official_splits[split] for split in card.pool)
    # Readings that leave labels out have fewer.
    assert card.n == total or None in card.adapter.labels.values()
    assert card.n <= total


def test_the_papers_numbers_are_those_of_the_default_readings():
    printed = {name: CARDS[name].paper_n for name in EIGHT}
    assert {name: CARDS[name].n for name in EIGHT} == printed
    assert sum(printed.values()) == 2870 + 2481 + 4708 + 780 + 7909 + 28160 + 1200 + 25331


def test_readings_of_brain_mr_are_sums():
    both = Counter(brain_mr.COUNTS["Training"]) + Counter(brain_mr.COUNTS["Testing"])
    assert expected("brain_mr") == brain_mr.COUNTS["Training"]
    assert expected("brain_mr@train_test") == dict(both)
    tumours = sum(n for name, n in brain_mr.COUNTS["Training"].items() if name != "no_tumor")
    assert expected("brain_mr@binary") == {"no_tumor": 395, "tumor": tumours}


def test_readings_of_breakhis_are_sums_over_slides():
    counts: Counter[tuple[str, str, str, int]] = Counter()
    for code, slides in breakhis.SLIDES.items():
        binary, subtype = breakhis.FOLDERS[code]
        for slide in slides.split():
            accession, numbers = slide.split(":")
            for magnification, n in zip(breakhis.MAGNIFICATIONS, map(int, numbers.split("/")), strict=True):
                counts[binary, subtype, accession, magnification] += n

    def total(which, keep=lambda key: True):
        sums = Counter()
        for key, n in counts.items():
            sums[key[which]] += n if keep(key) else 0
        return dict(sums)

    assert expected("breakhis") == total(0)
    assert expected("breakhis@subtype") == total(1)
    for magnification in breakhis.MAGNIFICATIONS:
        at = lambda key, m=magnification: key[3] == m  # noqa: E731
        assert expected(f"breakhis@x{magnification}") == total(0, at)
        assert expected(f"breakhis@subtype_x{magnification}") == total(1, at)
    kept = lambda key: key[2] != "14-13412"  # noqa: E731
    one = lambda key: kept(key) or key[1] == "lobular_carcinoma"  # noqa: E731
    assert expected("breakhis@subtype_without_13412") == total(1, kept)
    assert expected("breakhis@without_13412") == total(0, one)


def test_readings_of_hicervix_are_sums_over_the_tree():
    leaves = [c for c in hicervix.CLASSES if c[0] not in ("AGC", "AGC-NOS", "ADC")]
    assert expected("hicervix") == {c[0]: c[4] for c in hicervix.CLASSES}
    assert list(expected("hicervix")) == [c[0] for c in hicervix.CLASSES]
    assert expected("hicervix@leaf") == {c[0]: c[4] for c in leaves}
    assert expected("hicervix@microbe") == {c[0]: c[4] for c in leaves if c[1] == "microbe"}
    assert expected("hicervix@train_val") == {c[0]: c[4] + c[5] for c in hicervix.CLASSES}
    for name, level in (("level_1", 1), ("level_2", 2)):
        sums: Counter[str] = Counter()
        for row in hicervix.CLASSES:
            sums[row[level]] += row[4]
        without = sums.pop("", 0)
        assert expected(f"hicervix@{name}") == dict(sums)
    assert expected("hicervix@level_2_agc") == dict(sums) | {"AGC": without}


def test_readings_of_the_others_are_sums():
    train, val = deepdrid.COUNTS["training"], deepdrid.COUNTS["validation"]
    assert list(expected("deepdrid").values()) == train
    assert list(expected("deepdrid@train_val").values()) == [a + b for a, b in zip(train, val, strict=True)]
    splits = medmnist.SETS["pneumoniamnist"][0]
    both = [a + b for a, b in zip(splits["train"], splits["val"], strict=True)]
    assert list(expected("pneumoniamnist@train_val").values()) == both


def test_sets_made_of_the_same_images_agree():
    retina = [medmnist.SETS["retinamnist"][0][split] for split in ("train", "val")]
    assert [a + b for a, b in zip(*retina, strict=True)] == deepdrid.COUNTS["training"]
    assert medmnist.SETS["retinamnist"][0]["test"] == deepdrid.COUNTS["validation"]
    derma = [sum(n) for n in zip(*medmnist.SETS["dermamnist"][0].values(), strict=True)]
    assert derma == list(expected("ham10000@dx").values())
    breast = [sum(n) for n in zip(*medmnist.SETS["breastmnist"][0].values(), strict=True)]
    busi = expected("breastus")
    assert breast == [busi["malignant"], busi["normal"] + busi["benign"]]
    pneumonia = [sum(n) for n in zip(*medmnist.SETS["pneumoniamnist"][0].values(), strict=True)]
    assert sum(pneumonia) == sum(CARDS["chestxray_kermany"].official_splits.values())


@pytest.mark.parametrize("name", ["pneumoniamnist", "breastmnist", "dermamnist", "retinamnist"])
def test_each_size_of_medmnist_is_its_own_archive(name):
    digests = set()
    for reading in ("", "@px28", "@px64", "@px128"):
        card = CARDS[f"{name}{reading}"]
        (source,) = card.source
        assert isinstance(source, UrlFile)
        assert source.url == f"https://zenodo.org/records/10519652/files/{card.adapter.file}?download=1"
        assert CARDS.owner(card.name) == card.name
        digests.add(source.md5)
    assert len(digests) == 4


@pytest.mark.parametrize("name", PUBLIC)
def test_what_only_a_person_can_fetch_says_where(name):
    for source in CARDS[name].source:
        if isinstance(source, ManualFile):
            assert source.page.startswith("http")
            assert source.note


def test_the_page_names_every_card_and_reading():
    missing = [name for name in PUBLIC + READINGS if f"`{name}`" not in PAGE]
    assert missing == []
    named = set(re.findall(r"`([a-z0-9_]+@[a-z0-9_]+)`", PAGE)) - {"data_set@reading"}
    assert named <= set(READINGS)


def test_the_page_has_the_numbers_of_the_cards():
    rows = [
        line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `") and "@" in line
    ]
    assert len(rows) > 20
    for names, classes, n, _ in rows:
        cards = [CARDS[name] for name in re.findall(r"`([^`]+)`", names)]
        for text, values in ((classes, [len(c.classes) for c in cards]), (n, [c.n for c in cards])):
            numbers = [int(part.replace(",", "")) for part in text.strip().split(", ")]
            assert values == (numbers if len(numbers) > 1 else numbers * len(cards)), names


def test_the_second_papers_study_lists_its_image_classification_sets():
    study = yaml.safe_load((ROOT / "config/zhong2025.yaml").read_text())
    bases = [name.split("@")[0] for name in study["datasets"]]
    assert set(bases) == {*set(PUBLIC) - set(EIGHT), "pneumoniamnist"}


def test_a_mapping_may_take_a_part_of_a_column():
    row = TableRow("sheet.csv, line 2", {"Path": "train/patient00007/study1/view.jpg", "eye": "OD"})
    assert cell(row, r"{Path|patient\d+}") == "patient00007"
    assert cell(row, r"{Path|patient\d+}_{eye}") == "patient00007_OD"
    assert cell(row, r"{Path|person\d+}_{eye}") is None
    with pytest.raises(ValueError, match="not a regular expression"):
        Csv.model_validate({"kind": "csv", "columns": {"group": "{Path|(}"}})
