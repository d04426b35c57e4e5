"""The sets of Zhong et al. 2025, on replicas of their layouts; the large ones are cut short."""

import numpy as np
import pytest
from PIL import Image
from tests.replicas import medmnist, second_paper
from tests.replicas.reading import CARDS, expected, groups, labels, pooled, prepared, scanned, sized

from discern.data.pictures.images import Pictures


def values(name, counts):
    """Class -> number, from the numbers of label values as a replica wrote them."""
    classes = dict.fromkeys(CARDS[name].class_names, 0)
    for value, n in counts.items():
        meant = CARDS[name].adapter.labels.get(value.removesuffix(".0"), value)
        if meant is not None:
            classes[meant] += n
    return classes


@pytest.mark.parametrize("name", ["breastmnist", "dermamnist", "retinamnist"])
def test_medmnist(name, tmp_path):
    written = medmnist.make(tmp_path, name)
    rows = pooled(name, tmp_path)
    assert labels(rows) == expected(name)
    assert [entry.count for entry in CARDS[name].classes] == written["train"]
    assert CARDS[name].official_splits == {split: sum(counts) for split, counts in written.items()}
    for size in (28, 64, 128):
        medmnist.make(tmp_path, name, size)
        assert labels(pooled(f"{name}@px{size}", tmp_path)) == expected(name)


def test_chestxray_kermany(tmp_path):
    second_paper.chestxray_kermany(tmp_path)
    rows = pooled("chestxray_kermany", tmp_path)
    assert labels(rows) == expected("chestxray_kermany")
    assert {row.group for row in rows if "person10_" in row.path} == {"person10"}
    assert all(row.group for row in rows)


def test_chestxray_kermany_keeps_images_of_other_names(tmp_path):
    second_paper.chestxray_kermany(tmp_path, scale=0.01)
    top = tmp_path / "chest_xray/chest_xray/train/NORMAL"
    next(top.iterdir()).rename(top / "renamed.JPEG")
    rows = pooled("chestxray_kermany", tmp_path)
    assert [row.group for row in rows if "renamed" in row.path] == [None]


@pytest.mark.parametrize("parts", [False, True])
def test_ham10000_and_its_readings(parts, tmp_path):
    written = second_paper.ham10000(tmp_path, 0.2, parts)
    for name, part in (("ham10000", ""), ("ham10000@dx", ""), ("ham10000@split_files", "train")):
        assert labels(pooled(name, tmp_path)) == values(name, written[part])
    rows = pooled("ham10000", tmp_path)
    assert 1 < groups(rows) < len(rows)
    assert {row.image_id for row in pooled("ham10000@split_files", tmp_path)} < {r.image_id for r in rows}


@pytest.mark.parametrize("inside", [False, True])
def test_chexpert(inside, tmp_path):
    written = second_paper.chexpert(tmp_path / "data")
    place = tmp_path / "data" / ("CheXpert-v1.0-small" if inside else "")
    rows = pooled("chexpert", place)
    assert labels(rows) == values("chexpert", written["train"])
    assert {row.group for row in rows if "patient00007" in row.path} == {"patient00007"}
    assert groups(rows) == -(-len(rows) // 3)


def test_papila_leaves_suspects_out_and_groups_eyes(tmp_path):
    written = second_paper.papila(tmp_path)
    sheet = tmp_path / "split/new_train.csv"
    sheet.write_text(sheet.read_text().replace(",0,RET003OD", ",2,RET003OD"))
    written["train"].subtract({"0": 1})
    found = scanned("papila", tmp_path)
    assert found.left_out_labels == {"2": 1}
    rows = pooled("papila", tmp_path)
    assert labels(rows) == values("papila", written["train"])
    assert groups(rows) == 182
    assert sum(labels(pooled("papila@train_test", tmp_path)).values()) == 419


def test_gf3300_maps_become_pictures_by_the_rule_of_the_card(tmp_path):
    written = second_paper.gf3300(tmp_path / "place", scale=0.05)
    counts = values("gf3300", written["train"])
    rows, metadata, _ = prepared(sized("gf3300", counts), tmp_path / "place", tmp_path)
    assert metadata["counts"] == counts
    pixels = np.asarray(Pictures.of(metadata).open(rows[0]["path"]).convert("L"))
    with np.load(tmp_path / "place" / rows[0]["path"].split("#")[0]) as archive:
        wanted = (archive["rnflt"] + 2) / 352 * 255
    assert np.abs(pixels - wanted).max() <= 1  # rounded here, cut in the paper's code


def test_fairvlmed10k_by_sheets_and_as_released(tmp_path):
    written = second_paper.fairvlmed10k(tmp_path / "sheets", scale=0.02)
    assert labels(pooled("fairvlmed10k", tmp_path / "sheets")) == values("fairvlmed10k", written["train"])
    second_paper.fairvlmed10k_release(tmp_path / "release", scale=0.01)
    card = CARDS["fairvlmed10k@release"]
    card = sized(card.name, values(card.name, {"yes": 50, "no": 50}))
    rows, _, _ = prepared(card, tmp_path / "release", tmp_path)
    assert {row["official_split"] for row in rows} == {"training", "validation", "test"}
    with Image.open(tmp_path / "release/Training/slo_fundus_00001.jpg") as picture:
        assert picture.size == (rows[0]["width"], rows[0]["height"])


def test_camelyon17_whole_and_sampled(tmp_path):
    written = second_paper.camelyon17(tmp_path)
    rows = pooled("camelyon17", tmp_path)
    assert labels(rows) == values("camelyon17", written[""])
    assert groups(rows) == 43
    assert {row.official_split for row in rows} == set("01234")
    sampled = pooled("camelyon17@sampled", tmp_path)
    assert labels(sampled) == values("camelyon17@sampled", written["3680_train"])


def test_drishti_gs(tmp_path):
    second_paper.drishti_gs(tmp_path)
    assert labels(pooled("drishti_gs", tmp_path)) == expected("drishti_gs")
