"""Small replicas in the true layouts of the benchmark's data sets, read through the shipped cards."""

import json
from pathlib import Path

import numpy as np
import pytest

from discern.data.adapters import read_rows, scan
from discern.dataset_card import Adapter
from discern.errors import DiscernError
from discern.registry import Registry

REGISTRY = Registry([Path(__file__).parents[2] / "registry"])


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def read(card, root):
    found = scan(card.adapter, root, card.class_names)
    return {row.image_id: row for row in found.rows}, found.left_out


def test_table_with_every_column(tmp_path):
    (tmp_path / "labels.csv").write_text(
        "path,label,group,volume,official_split,mask_path,boxes,site\n"
        'a/1.png, liver ,p1,v1,train,m/1.png,"[[0, 1, 5, 6]]",x\n'
        "a/1.jpg,spleen,,,,,,y\n",
        encoding="utf-8-sig",
    )
    first, second = read_rows(Adapter(kind="table"), tmp_path, ["liver", "spleen"])
    assert (first.image_id, first.label_name, first.group, first.volume) == ("a/1.png", "liver", "p1", "v1")
    assert (first.official_split, first.mask_path, first.boxes) == ("train", "m/1.png", [[0, 1, 5, 6]])
    assert second.image_id == "a/1.jpg"  # two files of one stem keep their extensions
    assert (second.group, second.mask_path, second.boxes) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\n1.png,liver\n2.png,livre\n",
            r"labels\.csv: 1 rows do not fit the card:\n  .*labels\.csv, line 3: unknown label 'livre'; "
            r"did you mean 'liver'\?\n  allowed: liver, spleen",
        ),
        ("file,label\n1.png,liver\n", r"column 'path' is missing.*\n  allowed: file, label"),
        ("path,label\n../1.png,liver\n", r"line 2: path '\.\./1\.png' leaves"),
        ("path,label\n1.png,liver\n1.png,spleen\n", r"1 images are named more than once:\n  1\.png"),
        ("path,label\n1.png\n", r"line 2: does not have 2 fields"),
        ('path,label,boxes\n1.png,liver,"[[5, 0, 1, 1]]"\n', r"line 2: boxes are not JSON lists"),
        ("path,label\n", r"label sheet without rows"),
    ],
)
def test_table_mistakes_are_named_with_their_line(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DiscernError, match=message):
        read_rows(Adapter(kind="table"), tmp_path, ["liver", "spleen"])


def test_brain_mr_takes_training_alone_and_relative_paths(tmp_path):
    touch(
        tmp_path,
        "Training/no_tumor/image(1).jpg",
        "Training/glioma_tumor/image(1).jpg",
        "Testing/no_tumor/image(1).jpg",
        "Training/no_tumor/Thumbs.db",
        "__MACOSX/Training/x.jpg",
    )
    rows, left_out = read(REGISTRY.datasets["brain_mr"], tmp_path)
    assert {i: r.label_name for i, r in rows.items()} == {
        "no_tumor/image(1)": "no_tumor",
        "glioma_tumor/image(1)": "glioma_tumor",
    }
    assert rows["no_tumor/image(1)"].path == "Training/no_tumor/image(1).jpg"
    assert left_out == []


def test_sars_cov2_ct(tmp_path):
    touch(tmp_path, "COVID/Covid (1).png", "non-COVID/Non-Covid (1).png")
    card = REGISTRY.datasets["sars_cov2_ct"]
    rows, _ = read(card, tmp_path)
    assert {r.label_name for r in rows.values()} == {"COVID", "non-COVID"}
    assert card.n == 2481
    assert card.accepted_n == [2481, 2482]


def test_breastus_leaves_all_masks_out(tmp_path):
    base = "Dataset_BUSI_with_GT/benign/benign (4)"
    touch(
        tmp_path,
        f"{base}.png",
        f"{base}_mask.png",
        f"{base}_mask_1.png",
        "Dataset_BUSI_with_GT/normal/normal (1).png",
        "Dataset_BUSI_with_GT/normal/normal (1)_mask.png",
    )
    rows, left_out = read(REGISTRY.datasets["breastus"], tmp_path)
    assert sorted(rows) == ["benign/benign (4)", "normal/normal (1)"]
    assert len(left_out) == 3


def test_breakhis_label_group_and_slide_come_from_the_file_name(tmp_path):
    top = "BreaKHis_v1/histology_slides/breast"
    touch(
        tmp_path,
        f"{top}/benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png",
        f"{top}/benign/SOB/adenosis/SOB_B_A_14-22549CD/400X/SOB_B_A-14-22549CD-400-010.png",
        f"{top}/malignant/SOB/papillary_carcinoma/SOB_M_PC_15-190EF/100X/SOB_M_PC-15-190EF-100-002.png",
    )
    rows, _ = read(REGISTRY.datasets["breakhis"], tmp_path)
    seen = sorted((r.label_name, r.group, r.volume) for r in rows.values())
    assert seen == [
        ("benign", "14-22549", "SOB_B_A-14-22549AB"),
        ("benign", "14-22549", "SOB_B_A-14-22549CD"),
        ("malignant", "15-190", "SOB_M_PC-15-190EF"),
    ]


def test_hicervix(tmp_path):
    (tmp_path / "train.csv").write_text(
        "image_name,class_name,class_id,level_1,level_2,level_3\n"
        "65dfc2fb-e87c-35bc-aa3e-ce5323fde30b.jpg,HSV,24,microbe,HSV,\n"
        "5d3842d1-3704-31e5-9e75-a0abbe0c4022.jpg,AGC,13,AGC,,\n"
        "9ef35523-31ff-3a05-8173-e9296a9569b4.jpg,HCG ,7,negative,HCG ,\n"
    )
    card = REGISTRY.datasets["hicervix"]
    rows = read_rows(card.adapter, tmp_path, card.class_names)
    assert [card.class_names.index(r.label_name) for r in rows] == [24, 13, 7]  # the sheet's class_id
    assert rows[0].path == "train/65dfc2fb-e87c-35bc-aa3e-ce5323fde30b.jpg"


DEEPDRID = (
    "patient_id,image_id,image_path,Overall quality,left_eye_DR_Level,right_eye_DR_Level,patient_DR_Level,"
    "Clarity,Field definition,Artifact\n"
)


def test_deepdrid_takes_the_one_filled_eye(tmp_path):
    sheet = tmp_path / "regular_fundus_images/regular-fundus-training/regular-fundus-training.csv"
    sheet.parent.mkdir(parents=True)
    rows = (
        "4,4_l1,\\regular-fundus-training\\4\\4_l1.jpg,0,3,,4,6,6,8\n"
        "56,56_r3,\\regular-fundus-training\\56\\56_r3.jpg,0,1.0,,1,10,8,1\n"
        "4,4_r1,\\regular-fundus-training\\4\\4_r1.jpg,0,,4,4,8,6,6\n"
    )
    sheet.write_text(DEEPDRID + rows)
    card = REGISTRY.datasets["deepdrid"]
    seen = read_rows(card.adapter, tmp_path, card.class_names)
    assert [card.class_names.index(r.label_name) for r in seen] == [3, 1, 4]
    assert [r.group for r in seen] == ["4", "56", "4"]
    assert seen[1].path == "regular_fundus_images/regular-fundus-training/Images/56/56_r3.jpg"
    sheet.write_text(DEEPDRID + "4,4_l1,x,0,3,2,4,6,6,8\n")
    with pytest.raises(DiscernError, match="line 2: 2 of left_eye_DR_Level, right_eye_DR_Level are filled"):
        read_rows(card.adapter, tmp_path, card.class_names)


ISIC = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"


def test_isic2019_joins_lesions_to_one_hot_labels(tmp_path):
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text(
        ISIC + "ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
        "ISIC_0000001_downsampled,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0\n"
    )
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text(
        "image,age_approx,anatom_site_general,lesion_id,sex\n"
        "ISIC_0000001_downsampled,55,,,male\nISIC_0000000,50.0,anterior torso,BCN_0003650,female\n"
    )
    card = REGISTRY.datasets["isic2019"]
    first, second = read_rows(card.adapter, tmp_path, card.class_names)
    assert (first.label_name, first.group) == ("NV", "BCN_0003650")
    assert first.path == "ISIC_2019_Training_Input/ISIC_0000000.jpg"
    assert (second.label_name, second.group) == ("SCC", None)
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text(ISIC + "ISIC_0000000,0,0,0,0,0,0,0,0,1\n")
    with pytest.raises(DiscernError, match=r"line 2: 0 class columns are 1"):
        read_rows(card.adapter, tmp_path, card.class_names)
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text(ISIC + "ISIC_9,1,0,0,0,0,0,0,0,0\n")
    with pytest.raises(DiscernError, match=r"line 2: image 'ISIC_9' has no row in .*Metadata\.csv"):
        read_rows(card.adapter, tmp_path, card.class_names)


def test_pneumoniamnist(tmp_path):
    arrays = {}
    for split, n in (("train", 3), ("val", 2), ("test", 1)):
        arrays[f"{split}_images"] = np.zeros((n, 4, 4), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % 2
    np.savez(tmp_path / "pneumoniamnist_224.npz", **arrays)
    card = REGISTRY.datasets["pneumoniamnist"]
    rows, _ = read(card, tmp_path)
    assert len(rows) == 6
    assert rows["train_00001"].label_name == "pneumonia"
    assert rows["train_00001"].path == "pneumoniamnist_224.npz#train_images[1]"
    assert rows["val_00001"].official_split == "val"
    assert card.pool == ["train"]


def test_image_folder_mistakes_and_links(tmp_path):
    adapter = Adapter(kind="image_folder", labels={"kidney_left": "kidney"})
    touch(tmp_path, "store/kidney_left/1.png", "data/liver/sub/2.PNG", "data/.hidden/liver/3.png")
    (tmp_path / "data/kidney_left").symlink_to(tmp_path / "store/kidney_left")
    rows = read_rows(adapter, tmp_path / "data", ["kidney", "liver"])
    assert {r.image_id: r.label_name for r in rows} == {"kidney_left/1": "kidney", "liver/sub/2": "liver"}
    touch(tmp_path, "data/livers/4.png")
    with pytest.raises(DiscernError, match=r"livers/4\.png: unknown label 'livers'; did you mean 'liver'"):
        read_rows(adapter, tmp_path / "data", ["kidney", "liver"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DiscernError, match=r"no images here\n  repair: .*kidney_left, liver"):
        read_rows(adapter, tmp_path / "empty", ["kidney", "liver"])


def test_adapter_patterns_are_checked_when_the_card_is_read():
    with pytest.raises(ValueError, match="not a regular expression"):
        Adapter(kind="image_folder", pattern="(")
    with pytest.raises(ValueError, match="unknown named group patient"):
        Adapter(kind="image_folder", pattern="(?P<patient>x)")


def test_counts_of_the_cards_are_those_of_the_paper():
    cards = [REGISTRY.datasets[n] for n in REGISTRY.datasets.names() if REGISTRY.datasets[n].paper_n]
    assert {c.name: c.n for c in cards} == {c.name: c.paper_n for c in cards}
    assert len(cards) == 8
    assert json.loads(cards[0].model_dump_json())["name"] == cards[0].name
