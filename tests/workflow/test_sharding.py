"""A data set in shards: the same features as at once, and what failed or was lost alone is made again."""

import shutil

import numpy as np
import pytest
import yaml

from discern import paths
from discern.contracts import FEATURES, MANIFEST, feature_matrix, read_table

DATASET, MODEL, SHARDS = "ct_organs", "pixels32", 4  # 916 images by 256, four batches of 64
STUDY = "config/sharded.yaml"
READING = {"reading": "without one image", "subset": True, "drop": ["*00*"]}


@pytest.fixture
def study(project):
    """One model on a data set in shards, a reading of it that shares its features, and one at once."""
    card = project.read(f"registry/datasets/{DATASET}.yaml")
    names = [{"name": c["name"]} for c in card["classes"]]
    project.edit(f"registry/datasets/{DATASET}.yaml", readings={"fewer": READING | {"classes": names}})
    content = {
        "study": "sharded", "models": [MODEL], "datasets": [DATASET, f"{DATASET}@fewer", "mr_organs"],
        "reference": None, "extract": {"shard_images": 240},
    }  # fmt: skip
    (project.path / STUDY).write_text(yaml.safe_dump(content))
    return project


def values(project):
    table, about = read_table(FEATURES, project.path / paths.FEATURES.format(dataset=DATASET, model=MODEL))
    return table["image_id"].to_pylist(), feature_matrix(table), about


def shard(project, rows):
    return project.path / paths.SHARD.format(dataset=DATASET, model=MODEL, rows=rows)


def test_a_failed_and_a_lost_shard_alone_are_made_again(study):
    ids, whole, about = values(study)
    manifest, place = read_table(MANIFEST, study.path / paths.MANIFEST.format(dataset=DATASET))
    picture = study.path / place["root"] / manifest["path"][300].as_py()
    kept = shutil.copy2(picture, study.path / "kept")
    picture.write_bytes(b"")

    run = study.snakemake("features", study=STUDY)
    assert run.status != 0
    assert f"image '{ids[300]}' has changed" in run.text
    assert run.rules == {"extract_shard": SHARDS}  # nothing of the other data set, nor of the reading
    assert not shard(study, "256-512").exists()

    shutil.copy2(kept, picture)
    shard(study, "768-end").unlink()
    run = study.snakemake("features", study=STUDY)
    assert run.status == 0, run.text
    assert run.rules == {"extract_shard": 2, "merge_features": 1}
    assert {w for r, w in run.jobs if r == "extract_shard"} == {
        f"dataset={DATASET}, model={MODEL}, rows={rows}" for rows in ("256-512", "768-end")
    }

    again, merged, told = values(study)
    assert again == ids
    assert np.array_equal(merged, whole)
    assert {k for k in told if told[k] != about[k]} <= {"images_per_second"}
    assert not list((study.path / "results/shared").glob("shards/**/*.parquet"))
    assert not study.snakemake("features", "--dry-run", study=STUDY).rules
