"""The reduced study on real images and encoders: its numbers, its files, its independence from us."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from discern import contracts, paths

PRETRAINED = ["mobilenetv2", "efficientnet_lite0", "opennsfw_resnet50"]
STUDY = "ci"


def accuracy(project, dataset, model):
    file = project.path / paths.SCORES.format(study=STUDY, dataset=dataset, model=model, protocol="image")
    table, _ = contracts.read_table(contracts.SCORES, file)
    return 100 * np.mean(table["accuracy"].to_numpy())


@pytest.mark.parametrize("model", PRETRAINED)
@pytest.mark.parametrize(
    ("dataset", "least"),
    [("ct_organs", 70), ("mr_organs", 88), ("head_planes", 88), ("ihc_compartments", 88)],
)
def test_pretrained_encoders_reach_their_bands(finished, dataset, least, model):
    assert accuracy(finished, dataset, model) >= least


def test_raw_pixels_stay_below_theirs(finished):
    assert accuracy(finished, "ct_organs", "pixels32") <= 65


def test_random_weights_stay_below_every_pretrained_encoder(finished):
    random = accuracy(finished, "ct_organs", "random_lite0")
    assert random < min(accuracy(finished, "ct_organs", m) for m in PRETRAINED)


@pytest.mark.parametrize("model", [*PRETRAINED, "pixels32"])
def test_random_labels_without_text_are_chance(finished, model):
    # Neighbouring slices carry opposite random labels, so chance may come out below one half.
    assert 30 <= accuracy(finished, "overlay_none", model) <= 65


def test_two_incompatible_versions_of_one_library_ran_in_one_dag(finished):
    versions = {}
    for model in ("random_lite0", "efficientnet_lite0"):
        file = finished.path / paths.FEATURES.format(dataset="mr_organs", model=model)
        versions[model] = contracts.read_table(contracts.FEATURES, file)[1]["versions"]["timm"]
    assert versions == {"random_lite0": "1.0.31", "efficientnet_lite0": "0.6.13"}


def test_one_svm_cell_recomputed_with_scikit_learn_alone(finished):
    """From the feature file and the split file, by the protocol's text, without this package's engine."""
    names = {"study": STUDY, "dataset": "mr_organs", "model": "mobilenetv2", "protocol": "image"}
    features = pq.read_table(finished.path / paths.FEATURES.format(**names)).to_pydict()
    labels = pq.read_table(finished.path / paths.MANIFEST.format(**names)).to_pydict()
    splits = pq.read_table(finished.path / paths.SPLITS.format(**names)).to_pydict()
    y_of = dict(zip(labels["image_id"], labels["label"], strict=True))
    place = {i: (r, f) for i, r, f in zip(splits["image_id"], splits["role"], splits["fold"], strict=True)}
    x = np.array(features["feature"], dtype=np.float64)
    y = np.array([y_of[i] for i in features["image_id"]])
    role = np.array([place[i][0] for i in features["image_id"]])
    fold = np.array([-1 if place[i][1] is None else place[i][1] for i in features["image_id"]])
    settings = finished.read("config.yaml")["svm"]
    table, metadata = contracts.read_table(contracts.SCORES, finished.path / paths.SCORES.format(**names))
    for row in table.to_pylist():
        train, val, test = (role == "train") & (fold != row["fold"]), fold == row["fold"], role == "test"
        scaler = StandardScaler().fit(x[train])
        best = None
        for t in settings["t"]:
            c = t * x.shape[1] / train.sum()
            model = LinearSVC(C=c, **metadata["estimator_parameters"])
            model.fit(scaler.transform(x[train]), y[train])
            score = f1_score(y[val], model.predict(scaler.transform(x[val])), average="macro")
            if best is None or score > best[0]:
                best = (score, t, model)
        predicted = best[2].predict(scaler.transform(x[test]))
        assert row["t"] == best[1]
        assert row["accuracy"] == pytest.approx(np.mean(predicted == y[test]), abs=1e-12)
        assert row["macro_f1"] == pytest.approx(f1_score(y[test], predicted, average="macro"), abs=1e-12)


def test_the_old_and_the_new_timm_give_the_same_features(finished, tmp_path):
    """One backbone through two environments: incompatible libraries, equal features."""
    card = finished.read("registry/models/efficientnet_lite0.yaml")
    new = card | {"name": "lite0_new", "environment": "torch"}
    import yaml

    (finished.path / "registry/models/lite0_new.yaml").write_text(yaml.safe_dump(new))
    target = paths.FEATURES.format(dataset="mr_organs", model="lite0_new")
    run = finished.snakemake(target)
    assert run.status == 0, run.text
    old_file = finished.path / paths.FEATURES.format(dataset="mr_organs", model="efficientnet_lite0")
    matrices = [
        contracts.feature_matrix(contracts.read_table(contracts.FEATURES, f)[0])
        for f in (old_file, finished.path / target)
    ]
    (finished.path / "registry/models/lite0_new.yaml").unlink()
    np.testing.assert_allclose(matrices[0], matrices[1], rtol=1e-4, atol=1e-4)


def test_every_stage_left_its_files(finished):
    out = finished.path / "results" / STUDY
    for name in ("tables/table3.csv", "tables/table4.md", "tables/table3.tex", "tables/table4.html"):
        assert (out / name).stat().st_size > 0
    assert (out / "umap/mr_organs/mobilenetv2.grid.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "rise/mr_organs/opennsfw_resnet50.png").read_bytes()[:4] == b"\x89PNG"
    page = (out / "report/index.html").read_text()
    assert "MobileNetV2" in page
    assert 'src="http' not in page
    audit = json.loads((finished.path / paths.AUDIT.format(dataset="mr_organs")).read_text())
    assert audit["n"] == 235


def test_nothing_is_written_outside_results_and_resources(finished):
    known = {p.relative_to(finished.path).parts[0] for p in finished.path.iterdir()}
    run = known - {".snakemake", "results", "resources"}
    from tests.workflow.harness import ROOT

    assert all((ROOT / name).exists() for name in run)
