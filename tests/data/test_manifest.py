"""A verified row per image: damage, wrong counts and duplicates are reported by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.contracts import MANIFEST, SPLITS, read_json, read_table, sha256_file, write_json
from discern.data.preparation.drops import DropList
from discern.data.preparation.manifest import prepare_dataset
from discern.dataset_card import DatasetCard
from discern.errors import DiscernError

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path):
    """Four pictures of class a and three of class b, all different."""
    rng = np.random.default_rng(0)
    for name, n in (("a", 4), ("b", 3)):
        for i in range(n):
            path = tmp_path / "root" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8)).save(path)
    write_json(tmp_path / "fetched.json", {"dataset": "x", "root": str(tmp_path / "root"), "files": {}})
    return tmp_path


def card(counts=(4, 3), **changes):
    fields = {
        "name": "x",
        "title": "X",
        "modality": "CT",
        "licence": "CC0",
        "source": {"kind": "manual", "page": "p", "place": "q"},
        "adapter": {"kind": "image_folder"},
        "classes": [{"name": n, "count": c} for n, c in zip("ba", reversed(counts), strict=True)],
    }
    return DatasetCard.model_validate(fields | changes)


def prepare(data, card, threads=1):
    places = [data / name for name in ("fetched.json", "m.parquet", "m.audit.json", "made", "inspected")]
    prepare_dataset(card, *places, threads)
    table, metadata = read_table(MANIFEST, data / "m.parquet")
    return table.to_pylist(), metadata, read_json(data / "m.audit.json")


def test_rows_are_sorted_verified_and_labelled_in_canonical_order(data):
    rows, metadata, audit = prepare(data, card())
    assert [r["image_id"] for r in rows] == ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2"]
    assert [r["label"] for r in rows] == [1, 1, 1, 1, 0, 0, 0]  # b comes first in the card
    assert (rows[0]["width"], rows[0]["height"], rows[0]["mode"]) == (10, 8, "RGB")
    assert rows[0]["sha256"] == sha256_file(data / "root/a/0.png")
    assert metadata["classes"] == ["b", "a"]
    assert metadata["counts"] == {"b": 3, "a": 4}
    assert metadata["root"] == str(data / "root")
    assert metadata["made"] == str(data / "made")
    assert metadata["decoding"] == card().decoding.model_dump(mode="json")
    assert (metadata["reading"], metadata["variant"]) == ("", [])
    assert {r["cluster"] for r in rows} == {None}
    assert (audit["dataset"], audit["n"], audit["corrupt"]) == ("x", 7, [])
    assert (audit["duplicates"], audit["crossing_labels"], audit["near_duplicates"]) == ([], 0, [])


def test_damaged_pictures_are_all_named_unless_dropped(data):
    (data / "root/a/1.png").write_bytes((data / "root/a/1.png").read_bytes()[:60])
    (data / "root/b/2.png").write_text("no picture")
    with pytest.raises(
        DiscernError, match=r"2 images cannot be used:\n  a/1: .*\n  b/2: (.|\n)*repair: .*drop"
    ):
        prepare(data, card())
    assert [c["image_id"] for c in read_json(data / "m.audit.json")["corrupt"]] == ["a/1", "b/2"]
    assert not (data / "m.parquet").exists()
    rows, metadata, _ = prepare(data, card((3, 2), drop=["b/2", "a/1"]))
    assert len(rows) == 5
    assert [d["image_id"] for d in metadata["dropped"]] == ["a/1", "b/2"]


def test_a_variant_that_the_card_accepts_is_told(data, caplog):
    caplog.set_level("INFO")
    _, metadata, _ = prepare(data, card((5, 3), accepted_n=[7, 8]))
    assert metadata["counts"] == {"b": 3, "a": 4}
    assert metadata["variant"] == [
        "class 'a': 4 images, card says 5", "in all: 7 images, card says 7 or 8",
    ]  # fmt: skip
    assert "the variant of 7 images, which the card accepts instead of 8" in caplog.text
    assert "class 'a': 4 images, card says 5" in caplog.text
    with pytest.raises(DiscernError, match="class 'a': 4 images, card says 5"):
        prepare(data, card((5, 2), accepted_n=[7, 8]))  # the total is the card's own, the classes are not


def test_official_splits_are_compared_where_they_were_read(data):
    lines = [f"a/{i}.png,a,{'train' if i < 3 else 'test'}" for i in range(4)] + ["b/0.png,b,train"]
    sheet(data, "path,label,official_split", *lines)
    with pytest.raises(
        DiscernError, match=r"official split 'test': 1 images, card says 2\n.*'val': 0 images, card says 1"
    ):
        prepare(data, table_card(pool=["train"], official_splits={"train": 4, "test": 2, "val": 1}))
    assert len(prepare(data, table_card(official_splits={"train": 4, "test": 1}))[0]) == 5
    # Images of a label that is left out were in one of the parts, nobody knows in which.
    left_out = {"kind": "csv", "labels": {"c": None}}
    sheet(data, "path,label,official_split", *lines, "b/1.png,c,test")
    assert len(prepare(data, table_card(adapter=left_out, official_splits={"train": 4, "test": 2}))[0]) == 5
    with pytest.raises(DiscernError, match="official split 'test': 1 images, card says 3"):
        prepare(data, table_card(adapter=left_out, official_splits={"train": 4, "test": 3}))


def test_everything_that_is_wrong_stands_in_one_message(data):
    (data / "root/b/2.png").write_text("no picture")
    (data / "root/a/3.png").write_bytes((data / "root/a/2.png").read_bytes())
    wrong = card((5, 3), drop=["b/22"], official_splits={"train": 7}, duplicates="refuse")
    with pytest.raises(DiscernError) as error:
        prepare(data, wrong)
    for part in (
        "1 images cannot be used", "b/2: ", "class 'a': 4 images, card says 5", "card says 8",
        "official split 'train': 0 images", "b/22; did you mean", "1 clusters of identical pictures",
        "a/2 = a/3 (a)",
    ):  # fmt: skip
        assert part in str(error.value)
    assert str(error.value).count("repair: ") == 4
    assert read_json(data / "m.audit.json")["n"] == 6


def test_what_is_left_out_is_told(data, caplog):
    caplog.set_level("INFO")
    adapter = {"kind": "image_folder", "pattern": r"^[0-2]\.png$", "labels": {"a": None, "c": "a"}}
    os.rename(data / "root/b/2.png", data / "root/b/mask.png")
    (data / "root/c").mkdir()
    for i in range(2):
        os.rename(data / f"root/a/{i}.png", data / f"root/c/{i}.png")
    _, metadata, _ = prepare(data, card((2, 2), adapter=adapter))
    assert (metadata["left_out"], metadata["left_out_labels"]) == (2, {"a": 1})
    assert "pattern leaves out 2 files: a/3.png, b/mask.png" in caplog.text
    assert "label 'a' is left out: 1 images" in caplog.text


def test_dropped_names_may_have_stars_and_nothing_else(data):
    os.rename(data / "root/a/1.png", data / "root/a/x [1] (2).png")
    os.rename(data / "root/a/2.png", data / "root/a/x 1 (2).png")
    rows, metadata, _ = prepare(data, card((2, 3), drop=["a/x [1] (*)", "a/3"]))
    assert [r["image_id"] for r in rows if r["label_name"] == "a"] == ["a/0", "a/x 1 (2)"]
    assert sorted(d["image_id"] for d in metadata["dropped"]) == ["a/3", "a/x [1] (2)"]


def test_dropped_names_that_are_no_image_are_all_named(data):
    with pytest.raises(DiscernError, match=r"3 names under `drop` .* are no image:\n  b/22; did you mean"):
        prepare(data, card(drop=["b/22", "c*", "a/9", "a/0"]))
    with pytest.raises(DiscernError, match=r"3 names under `drop` (.|\n)* c\*\n"):
        prepare(data, card(drop=["b/22", "c*", "a/9", "a/0"]))


def test_thousands_of_dropped_names_do_not_take_long():
    names = [f"class{i % 7}/patient {i // 50}/image ({i % 50})" for i in range(100_000)]
    entries = [f"class{i % 7}/patient {i // 50}/image ({i % 50})" for i in range(0, 5000, 2)]
    drop = DropList(entries + [f"*/patient {1000 + i}/*" for i in range(20)] + ["class3/patient 1999/*"])
    assert sum(name in drop for name in names) == 2500 + 20 * 50 + 7
    assert drop.unused("here", names) is None


def test_at_most_twenty_names_then_a_count(data):
    for i in range(25):
        (data / f"root/a/bad{i:02d}.png").write_text("")
    with pytest.raises(DiscernError) as error:
        prepare(data, card())
    assert str(error.value).count("cannot be decoded") == 20
    assert "and 5 more" in str(error.value)


def test_differences_from_the_card_are_explained(data):
    with pytest.raises(
        DiscernError, match=r"class 'a': 4 images, card says 5\n.*in all: 7 images, card says 8"
    ):
        prepare(data, card((5, 3)))
    assert len(prepare(data, card((None, None)))[0]) == 7
    (data / "root/c").mkdir()
    with pytest.raises(DiscernError, match="class 'c': no images"):
        prepare(data, card(classes=[{"name": n} for n in "abc"], accepted_n=[7]))


def test_duplicates_by_bytes_and_by_pixels(data):
    (data / "root/b/0.png").write_bytes((data / "root/a/0.png").read_bytes())
    with Image.open(data / "root/a/1.png") as image:
        image.save(data / "root/a/2.png", compress_level=0)
    audit = prepare(data, card())[2]
    files, pixels = audit["duplicates"]
    assert files["image_ids"] == ["a/0", "b/0"]
    assert files["sha256"] == sha256_file(data / "root/a/0.png")
    assert pixels["image_ids"] == ["a/1", "a/2"]
    assert "pixels" in pixels
    assert audit["crossing_labels"] == 1
    with pytest.raises(
        DiscernError, match=r"2 clusters of identical pictures:\n  a/0 = b/0 \(a, b\)\n  a/1 = a/2"
    ):
        prepare(data, card(duplicates="refuse"))


def table_card(**changes):
    return card((None, None), **{"adapter": {"kind": "csv"}, **changes})


def sheet(data, *lines):
    (data / "root/labels.csv").write_text("\n".join(lines) + "\n")


def test_pool_takes_the_named_splits_alone(data):
    lines = [f"a/{i}.png,a,{'train' if i < 3 else 'test'}" for i in range(4)] + ["b/0.png,b,train"]
    sheet(data, "path,label,official_split", *lines)
    rows, metadata, _ = prepare(data, table_card(pool=["train"]))
    assert len(rows) == 4
    assert metadata["outside_pool"] == {"test": 1}
    with pytest.raises(DiscernError, match=r"no image has official split 'val'\n  allowed: test, train"):
        prepare(data, table_card(pool=["val"]))


def test_masks_and_boxes_must_fit_their_picture(data):
    Image.new("L", (10, 8)).save(data / "root/good.png")
    Image.new("L", (8, 10)).save(data / "root/turned.png")
    header = "path,label,mask_path,boxes"
    sheet(data, header, 'a/0.png,a,good.png,"[[0, 0, 10, 8]]"', "b/0.png,b,,")
    row = prepare(data, table_card())[0][0]
    assert (row["mask_path"], row["boxes"]) == ("good.png", [[0, 0, 10, 8]])
    sheet(data, header, "a/0.png,a,turned.png,", 'b/0.png,b,,"[[0, 0, 11, 8]]"')
    with pytest.raises(DiscernError, match=r"a/0: turned\.png: mask(.|\n)*b/0: .*outside"):
        prepare(data, table_card())


def test_absent_and_empty_folders_say_what_was_looked_for(data):
    for root, state in (("gone", "is absent"), ("empty", "is empty")):
        write_json(data / "fetched.json", {"dataset": "x", "root": str(data / root), "files": {}})
        write_json(data / "empty/fetched.json", {})  # the workflow keeps the record there
        with pytest.raises(
            DiscernError, match=rf"data set 'x': .*/{root} {state}; looked for(.|\n)*after that: rm .*fetched"
        ):
            prepare(data, table_card())
    write_json(data / "fetched.json", {"dataset": "x", "root": str(data / "root"), "files": {}})
    with pytest.raises(DiscernError, match=r"another layout than the card's: looked for labels\.csv"):
        prepare(data, table_card())


def test_npz_members_become_rows(data):
    rng = np.random.default_rng(1)
    arrays = {}
    for split, n in (("train", 4), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 6, 6), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % 2
    np.savez(data / "root/s.npz", **arrays)
    npz = card((2, 2), adapter={"kind": "npz", "file": "s.npz"}, pool=["train"])
    rows, metadata, _ = prepare(data, npz)
    assert [r["image_id"] for r in rows] == [f"train_{i:05d}" for i in range(4)]
    assert [r["label"] for r in rows] == [0, 1, 0, 1]
    assert rows[0]["mode"] == "L"
    assert metadata["outside_pool"] == {}  # these arrays are not even read


def test_scripts_run_from_a_shell(data):
    """A relative root counts from the folder that the job runs in; a mistake ends the log with its reason."""
    os.rename(data / "root", data / "pictures")
    write_json(data / "fetched.json", {"dataset": "x", "root": "pictures", "files": {}})

    def script(name, *arguments):
        command = [sys.executable, PROJECT / "workflow/scripts" / f"{name}.py", *arguments]
        return subprocess.run(command, cwd=data, capture_output=True, text=True, check=False)

    options = ["--record", "fetched.json", "--manifest", "out/m.parquet", "--audit", "out/m.audit.json"]
    options += ["--made", "out/made", "--inspected", "out/inspected"]
    done = script("prepare_dataset", "--card", card().model_dump_json(), *options, "--threads", "2")
    assert done.returncode == 0, done.stderr
    assert read_table(MANIFEST, data / "out/m.parquet")[1]["root"] == "pictures"
    options = ["--manifest", "out/m.parquet", "--protocol", "image", "--out", "out/s.parquet"]
    done = script("split_dataset", *options, "--settings", json.dumps({"folds": 2, "holdout": 0.3}))
    assert done.returncode == 0, done.stderr
    assert read_table(SPLITS, data / "out/s.parquet")[1]["n_test"] == 3
    done = script("split_dataset", *options, "--settings", "{}")
    assert done.returncode == 1
    assert "class 'b' has 3 images, too few" in done.stderr
