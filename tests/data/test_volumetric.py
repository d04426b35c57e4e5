"""A volumetric data set from NIfTI files to tables and report, beside a 2D one: planted classes are found."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import yaml

from discern import paths
from discern.analysis.svm.fitting import fit_cell
from discern.analysis.umap.embedding import embed_cell
from discern.config import Study
from discern.contracts import FEATURES, MANIFEST, SCORES, read_json, read_table, write_json
from discern.data.pictures.volumes import open_volume
from discern.data.preparation.manifest import prepare_dataset
from discern.data.splits import split_dataset
from discern.encoders.record import write_record
from discern.errors import DiscernError
from discern.features.extract import extract_features
from discern.matrix import cells, explained
from discern.plan import Plan
from discern.preflight import missing_inputs
from discern.registry import Registry
from discern.report.site import render_report
from discern.report.tables import build_tables

N = 20  # per class
NOTE = "pictures have no voxel spacing"
MODEL = {
    "name": "tiny_volumes",
    "title": "Tiny volumes",
    "group": "volumetric",
    "loader": {
        "route": "python",
        "arch": "discern.encoders.networks.merlin:build",
        "options": {"layers": [1, 1], "width": 8},
        "keys": "random",
        "seed": 0,
    },
    "volume": {
        "spacing": [1, 1, 1],
        "window": [-1000, 1000],
        "scaled": [0, 1],
        "size": [24, 24, 24],
        "fill": 0,
    },
    "volume_note": NOTE,
    "features": [{"name": "pooled", "d": 64}],
    "gpu": False,
}
FLAT = {
    "name": "flat",
    "loader": {"route": "pixels"},
    "preprocess": {"resize": "squash", "size": 8, "channels": "grey"},
    "features": [{"name": "pixels", "d": 64}],
}
SCANS = {
    "name": "scans",
    "title": "Balls and boxes",
    "modality": "CT volume",
    "source": {"kind": "manual", "place": "ball"},
    "adapter": {"kind": "image_folder", "pattern": r"(?P<group>p\d+)_"},
    "classes": [{"name": "ball", "count": N}, {"name": "box", "count": N}],
    "group_key": "patient",
    "licence": "none",
}
PICTURES = {
    "name": "pictures",
    "title": "Pictures",
    "modality": "CT",
    "source": {"kind": "manual", "place": "a"},
    "adapter": {"kind": "image_folder"},
    "classes": [{"name": "a"}, {"name": "b"}],
    "licence": "none",
}


def solid(kind, random):
    """Bright ball or box in air, 24 voxels a side, somewhere near the middle; int16 Hounsfield units."""
    place = np.indices((24, 24, 24)) - 12 - random.uniform(-2, 2, 3)[:, None, None, None]
    inside = (place**2).sum(axis=0) < 25 if kind == "ball" else np.abs(place).max(axis=0) < 8
    return (np.where(inside, 400, -900) + random.normal(0, 60, inside.shape)).astype(np.int16)


def save(voxels, path, axes=(1, 1, 1)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels[tuple(slice(None, None, a) for a in axes)], np.diag([*axes, 1.0])), path)


def write_scans(root):
    random = np.random.default_rng(0)
    for kind in ("ball", "box"):
        for i in range(N):
            suffix = ".nii" if i % 5 == 0 else ".nii.gz"
            save(
                solid(kind, random),
                root / kind / f"p{i // 2:02d}_{i % 2}{suffix}",
                (-1, -1, 1) if i % 3 else (1, 1, 1),
            )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A registry of two models and two data sets, and the scans."""
    monkeypatch.chdir(tmp_path)
    for folder, cards in (("models", (MODEL, FLAT)), ("datasets", (SCANS, PICTURES))):
        (tmp_path / "registry" / folder).mkdir(parents=True)
        for card in cards:
            content = {"weights": {"kind": "none"}} | card if folder == "models" else card
            (tmp_path / "registry" / folder / f"{card['name']}.yaml").write_text(yaml.safe_dump(content))
    write_scans(tmp_path / "scans")
    write_json(tmp_path / "fetched.json", {"root": str(tmp_path / "scans")})
    write_record("tiny_volumes", [], tmp_path / "weights.json")
    return tmp_path


def prepared(project, **changes):
    card = Registry(["registry"]).datasets["scans"].model_copy(update=changes)
    prepare_dataset(
        card, *(project / n for n in ("fetched.json", "m.parquet", "audit.json", "made", "inspected"))
    )
    return read_table(MANIFEST, project / "m.parquet")


def test_the_manifest_of_volumes(project):
    table, about = prepared(project)
    rows = table.to_pylist()
    assert about["counts"] == {"ball": N, "box": N}
    assert rows[0]["image_id"] == "ball/p00_0"
    assert {(r["width"], r["height"], r["mode"]) for r in rows} == {(24, 24, "volume 24x24x24")}
    assert {r["path"].split(".", 1)[1] for r in rows} == {"nii", "nii.gz"}
    assert len({r["group"] for r in rows}) == N // 2
    assert read_json(project / "audit.json")["duplicates"] == []


def test_the_same_volume_packed_and_unpacked_is_a_duplicate(project):
    packed = project / "scans" / "box" / "p00_1.nii.gz"
    (project / "scans" / "box" / "p00_0.nii").write_bytes(gzip.decompress(packed.read_bytes()))
    rows = prepared(project)[0].to_pylist()
    audit = read_json(project / "audit.json")
    (cluster,) = audit["duplicates"]
    assert cluster["image_ids"] == ["box/p00_0", "box/p00_1"]
    assert "pixels" in cluster
    assert [c["kind"] for c in audit["near_duplicates"]] == ["exact"]  # volumes have no perceptual hash
    assert audit["near"]["without_hash"] == 2 * N
    assert {r["image_id"] for r in rows if r["cluster"] == "box/p00_0"} == {"box/p00_0", "box/p00_1"}


def test_pictures_beside_the_scans_are_not_images(project):
    (project / "scans" / "ball" / "preview.png").write_bytes(b"no picture")
    assert prepared(project)[0].num_rows == 2 * N


def torn(path):
    path.write_bytes(path.read_bytes()[:1000])


def not_finite(path):
    save_floats(path, np.full((4, 4, 4), np.nan, np.float32))


def flat(path):
    save_floats(path, np.zeros((4, 4), np.float32))


def series(path):
    save_floats(path, np.zeros((4, 4, 4, 3), np.float32))


def save_floats(path, voxels):
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(torn, "cannot be read as a NIfTI volume"), (not_finite, "64 voxels are not finite"),
     (flat, r"shape \(4, 4\), a volume has three axes"), (series, r"\(4, 4, 4, 3\)")],
)  # fmt: skip
def test_damaged_volumes_are_named(project, damage, message):
    damage(project / "scans" / "box" / "p03_1.nii.gz")
    with pytest.raises(DiscernError, match=rf"(?s)1 images cannot be used.*box/p03_1.*{message}"):
        prepared(project)


def test_a_time_axis_of_one_is_none(tmp_path):
    save_floats(tmp_path / "a.nii.gz", np.ones((4, 5, 6, 1), np.float32))
    assert open_volume(tmp_path / "a.nii.gz")[0].shape == (4, 5, 6)


def test_scaling_of_the_file_is_applied(tmp_path):
    image = nib.Nifti1Image(np.full((2, 2, 2), 1024, np.int16), np.eye(4))
    image.header.set_slope_inter(1, -1024)
    nib.save(image, tmp_path / "a.nii.gz")
    stored, _ = open_volume(tmp_path / "a.nii.gz")
    assert stored.dtype == np.float32
    assert (stored == 0).all()


def test_from_files_to_tables_and_report(project):
    study = Study.model_validate(
        {
            "study": "s",
            "models": ["tiny_volumes", "flat"],
            "datasets": ["scans", "pictures"],
            "split": {"folds": 3},
            "svm": {"t": [1, 100]},
            "umap": {"n_neighbors": [5], "min_dist": [0.1], "datasets": ["scans"], "quality_neighbors": 5},
        }
    )
    registry = Registry(["registry"])
    where = {"study": "s", "dataset": "scans", "model": "tiny_volumes", "protocol": "image"}
    names = ("MANIFEST", "AUDIT", "SPLITS", "FEATURES", "SCORES", "PREDICTIONS", "CLASSIFIER", "UMAP")
    files = {name: project / getattr(paths, name).format(**where) for name in names}
    card = registry.models["tiny_volumes"]
    prepare_dataset(
        registry.datasets["scans"], project / "fetched.json", files["MANIFEST"], files["AUDIT"],
        project / "made", project / "inspected",
    )  # fmt: skip
    split_dataset(files["MANIFEST"], "image", study.split, files["SPLITS"])
    extract_features(
        card.extraction_spec(), files["MANIFEST"], project / "weights.json", files["FEATURES"], 3, "cpu"
    )
    fit_cell(
        files["FEATURES"], files["MANIFEST"], files["SPLITS"], study.svm,
        files["SCORES"], files["PREDICTIONS"], files["CLASSIFIER"], protocol="image",
    )  # fmt: skip
    embed_cell(files["FEATURES"], files["MANIFEST"], study.umap, files["UMAP"])
    _, about = read_table(FEATURES, files["FEATURES"])
    assert about["preprocess"].startswith("axes RAS; resampled to 1 x 1 x 1 mm")
    assert "nibabel" in about["versions"]
    assert min(read_table(SCORES, files["SCORES"])[0]["accuracy"].to_pylist()) >= 0.9

    build_tables(study, registry, project / paths.TABLES.format(study="s"), partial=True, root=project)
    table = (project / paths.TABLES.format(study="s") / "table3.md").read_text()
    assert f"not applicable: volumetric model, 2D data set ({NOTE})" in table
    assert "not applicable: 2D model, volumetric data set" in table
    render_report(study, registry, project / "report.html", partial=True, root=project)
    assert "Not applicable: RISE masks pictures, these are volumes." in (project / "report.html").read_text()


def test_weights_that_no_cell_needs_are_not_missed(project):
    manual = MODEL | {"name": "by_hand", "weights": {"kind": "manual", "page": "a page", "place": "w.pt"}}
    (project / "registry" / "models" / "by_hand.yaml").write_text(yaml.safe_dump(manual))
    registry = Registry(["registry"])

    def missed(*datasets):
        study = Study(study="s", models=["by_hand", "flat"], datasets=list(datasets))
        return [(item.kind, item.name) for item in missing_inputs(study, registry)]

    assert missed("pictures") == [("data set", "pictures")]
    assert ("weights", "by_hand") in missed("scans")


def test_the_plan_has_no_job_that_does_not_apply(project):
    study = Study(study="s", models=["tiny_volumes", "flat"], datasets=["scans", "pictures"])
    plan = Plan(study)
    assert [(c.model, c.dataset) for c in plan.cells] == [("tiny_volumes", "scans"), ("flat", "pictures")]
    assert len(cells(study, plan.registry)) == 4
    assert explained(study, plan.registry) == plan.explained() == ["pictures"]
    assert plan.expand(paths.RISE_FIGURE, plan.explained()) == ["results/s/rise/pictures/flat.png"]
    only = Study(study="s", models=["tiny_volumes"], datasets=["scans"])
    assert Plan(only).expand(paths.RISE_FIGURE, Plan(only).explained()) == []
    assert Plan(only).expand(paths.UMAP) == ["results/s/umap/scans/tiny_volumes.parquet"]
