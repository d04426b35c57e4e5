"""Containers of many pictures: NumPy archives and Parquet files."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapter_cards import card, labels, rows, touch

from discern.data.adapters import scan
from discern.errors import DiscernError

MEDMNIST = card("npz", file="a.npz")


def arrays(root, name="a.npz", **more):
    content = {}
    for split, n in (("train", 3), ("val", 2), ("test", 1)):
        content[f"{split}_images"] = np.zeros((n, 4, 4), np.uint8)
        content[f"{split}_labels"] = np.arange(n)[:, None] % 2
    np.savez(root / name, **{k: v for k, v in (content | more).items() if v is not None})


def test_medmnist(tmp_path):
    arrays(tmp_path)
    found = rows(MEDMNIST, tmp_path)
    assert len(found) == 6
    assert found["train_00001"].label_name == "spleen"
    assert found["train_00001"].path == "a.npz#train_images[1]"
    assert found["val_00001"].official_split == "val"
    pooled = card("npz", file="a.npz", pool=["train"])
    arrays(tmp_path, val_images=None, test_labels=None)  # which are not read
    assert len(rows(pooled, tmp_path)) == 3


@pytest.mark.parametrize(
    "values",
    [[1, 0, 1], [[1.0], [0.0], [1.0]], ["spleen", "liver", "spleen"], [b"spleen", b"liver", b"spleen"],
     [[0, 1], [1, 0], [0, 1]], [True, False, True]],
)  # fmt: skip
def test_labels_are_names_numbers_or_one_hot(tmp_path, values):
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array(values))
    own = card("npz", file="a.npz", splits=[])
    assert labels(own, tmp_path) == {
        "image_00000": "spleen", "image_00001": "liver", "image_00002": "spleen",
    }  # fmt: skip


def test_a_file_for_each_split_and_groups(tmp_path):
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", x=np.zeros((2, 4, 4)), y=[0, 1], patient=[f"{split}7", ""])
    names = {
        "file": "{split}.npz",
        "splits": ["train", "test"],
        "images": "x",
        "targets": "y",
        "groups": "patient",
    }
    found = rows(card("npz", **names), tmp_path)
    assert {n: (r.path, r.group) for n, r in found.items() if n.startswith("test")} == {
        "test_00000": ("test.npz#x[0]", "test7"),
        "test_00001": ("test.npz#x[1]", None),
    }


@pytest.mark.parametrize(
    ("more", "fragments"),
    [
        ({"train_images": np.zeros((3, 4))}, ["train_images has shape (3, 4)", "allowed: (N, H, W)"]),
        ({"train_labels": np.zeros(4)}, ["train_images has 3 images, train_labels 4 values"]),
        ({"train_labels": np.full(3, np.nan)}, ["unknown labels", "'nan'"]),
        ({"train_labels": np.array([0, 1, 5])}, ["'5' (1 images, first", "train_labels[2]"]),
        ({"train_labels": np.eye(3)}, ["train_labels has 3 columns, the card 2 classes"]),
        ({"train_labels": np.array([[1, 0], [1, 1], [0, 0]])}, ["not one column is 1 in 2 rows, first 1"]),
        (
            {"train_labels": None, "test_images": None},
            ["has no array 'train_labels'", "no array 'test_images'"],
        ),
    ],
)
def test_archives_that_do_not_fit(tmp_path, more, fragments):
    arrays(tmp_path, **more)
    with pytest.raises(DiscernError) as error:
        scan(MEDMNIST, tmp_path)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_no_archive(tmp_path):
    arrays(tmp_path, "b.npz")
    with pytest.raises(DiscernError, match=r"a\.npz: no such file; archives in the folder: b\.npz"):
        scan(MEDMNIST, tmp_path)
    (tmp_path / "a.npz").write_bytes(b"PK no")
    with pytest.raises(DiscernError, match=r"a\.npz: damaged npz archive"):
        scan(MEDMNIST, tmp_path)


# ---------------------------------------------------------------- Parquet

HUB = card("parquet", columns={"path": "image"})


def parquet(root, file="a.parquet", names=None, **columns):
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if names:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(about)})
    pq.write_table(table, root / file)


def pictures(*names):
    return [{"bytes": b"x", "path": name} for name in names]


def test_pictures_of_a_hub(tmp_path):
    parquet(tmp_path, image=pictures("a 1.png", "b/2.jpg"), label=["liver", "spleen"], group=[7, None])
    found = rows(HUB, tmp_path)
    assert {n: (r.path, r.label_name, r.group) for n, r in found.items()} == {
        "a 1": ("a.parquet#image[0]", "liver", "7"),
        "b/2": ("a.parquet#image[1]", "spleen", None),
    }


def test_numbers_count_the_names_of_the_file_not_those_of_the_card(tmp_path):
    parquet(tmp_path, names=["spleen", "liver", "other"], image=pictures("1", "2", "3"), label=[0, 1, 2])
    with pytest.raises(DiscernError, match=r"unknown labels:\n  'other'"):
        scan(HUB, tmp_path)
    own = card("parquet", columns={"path": "image"}, labels={"other": None})
    assert labels(own, tmp_path) == {"1": "spleen", "2": "liver"}
    stronger = card("parquet", columns={"path": "image"}, labels={"0": "liver", "2": None})
    assert labels(stronger, tmp_path) == {"1": "liver", "2": "liver"}
    parquet(tmp_path, image=pictures("1", "2"), label=pa.array([0.0, 1.0]))
    assert labels(HUB, tmp_path) == {"1": "liver", "2": "spleen"}


def test_names_that_are_not_unique_give_rows_as_ids(tmp_path):
    for part in range(2):
        parquet(tmp_path, f"data/train-{part}.parquet", image=pictures("1.png", "2.png"), label=[0, 1])
    parquet(tmp_path, "data/test-0.parquet", image=pictures("1.png"), label=[-1])
    splits = {"table": "data/{split}-*.parquet", "splits": ["train", "test"], "columns": {"path": "image"}}
    pooled = card("parquet", pool=["train"], **splits)
    assert {n: (r.path, r.official_split) for n, r in rows(pooled, tmp_path).items()} == {
        f"data/train-{part}_{row:06d}": (f"data/train-{part}.parquet#image[{row}]", "train")
        for part in range(2)
        for row in range(2)
    }
    with pytest.raises(DiscernError, match=r"'-1'.* \(1 images, first .*test-0\.parquet, row 0\)"):
        scan(card("parquet", **splits), tmp_path)


def test_plain_bytes_and_masks_in_the_file(tmp_path):
    mask = pa.array([{"bytes": b"m"}, None, {"bytes": None}], pa.struct([("bytes", pa.binary())]))
    picture = pa.array([b"1", b"2", b"3"], pa.large_binary())
    parquet(tmp_path, path=picture, label=[0, 1, 0], mask_path=mask, boxes=[[[0, 0, 2, 2]], None, []])
    found = rows(card("parquet"), tmp_path)
    assert {n: r.mask_paths for n, r in found.items()} == {
        "a_000000": ("a.parquet#mask_path[0]",), "a_000001": (), "a_000002": (),
    }  # fmt: skip
    assert [r.boxes for r in found.values()] == [[[0, 0, 2, 2]], None, []]


def test_pictures_beside_the_file(tmp_path):
    parquet(tmp_path, name=["1", "2"], label=["liver", "spleen"], part=["x", "y"])
    beside = card("parquet", columns={"path": "{part}/{name}.png"}, images=["", "Images"])
    touch(tmp_path, "Images/x/1.PNG", "Images/y/2.png")
    assert labels(beside, tmp_path) == {"Images/x/1": "liver", "Images/y/2": "spleen"}
    (tmp_path / "Images/x/1.PNG").unlink()
    with pytest.raises(DiscernError, match=r"1 files that the table names are not there:\n  Images/x/1\.png"):
        scan(beside, tmp_path)
    stored = [{"bytes": None, "path": "Images/y/2.png"}, {"bytes": b"x", "path": "1.png"}]
    parquet(tmp_path, image=stored, label=[0, 1])
    assert {r.path for r in rows(HUB, tmp_path).values()} == {"Images/y/2.png", "a.parquet#image[1]"}


def test_the_bytes_of_pictures_are_not_loaded(tmp_path):
    big = [{"bytes": b"%d" % i + bytes(1_000_000), "path": f"{i}.png"} for i in range(64)]
    parquet(tmp_path, image=big, label=[i % 2 for i in range(64)])
    before = pa.total_allocated_bytes()
    pool = pa.system_memory_pool()
    pa.set_memory_pool(pool)
    try:
        assert len(rows(HUB, tmp_path)) == 64
        assert pool.max_memory() < 16_000_000
    finally:
        pa.set_memory_pool(pa.default_memory_pool())
    assert pa.total_allocated_bytes() <= before + 1_000_000


@pytest.mark.parametrize(
    ("columns", "fragments"),
    [
        ({"picture": pictures("1"), "label": [0]}, ["column 'image' is missing", "allowed: picture, label"]),
        ({"image": pictures("1", "2"), "label": [0, None]}, ["an empty label (1 images, first", "row 1)"]),
        ({"image": [{"file": "x"}], "label": [0]}, ["column 'image': is a record without `bytes`"]),
        ({"image": [{"bytes": None, "path": None}], "label": [0]}, ["row 0: has no picture"]),
        ({"image": ["../x.png"], "label": [0]}, ["row 0: path '../x.png' leaves"]),
    ],
)
def test_tables_that_do_not_fit(tmp_path, columns, fragments):
    parquet(tmp_path, **columns)
    with pytest.raises(DiscernError) as error:
        scan(HUB, tmp_path)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_no_file_and_a_damaged_one(tmp_path):
    with pytest.raises(DiscernError, match=r"no file matches \*\.parquet"):
        scan(HUB, tmp_path)
    parquet(tmp_path, "deep/a.parquet", image=pictures("1"), label=[0])
    with pytest.raises(DiscernError, match=r"there are: deep/a\.parquet"):
        scan(HUB, tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DiscernError, match=r"b\.parquet: cannot be read as Parquet"):
        scan(HUB, tmp_path)
