"""Neighbours by hand on planted vectors: shares, chance, candidates, and what the hashes know already."""

import json

import numpy as np
import pytest
from planted_cells import write_cell
from sklearn.neighbors import NearestNeighbors

from discern.analysis import neighbours
from discern.analysis.knn import unit_vectors
from discern.analysis.neighbours import Images, candidates, find_neighbours, nearest, read_images
from discern.contracts import FEATURES, MANIFEST, feature_table, read_table, write_json, write_table
from discern.errors import DiscernError

N, D = 60, 16
TEST = np.arange(N) % 5 == 0  # images 0, 5, 10 ...
FOLDS = np.where(TEST, -1, np.arange(N) % 3)
LABELS = (np.arange(N) % 2).astype(np.int32)
GROUPS = [f"p{i // 4}" if i < 40 else None for i in range(N)]
#: Pairs planted into every model, each of two classes: the first and last lie across the hold-out.
PLANTED = [(10, 11), (21, 34), (50, 51)]


def cloud(seed, pairs=PLANTED, noise=1e-3):
    x = np.random.default_rng(seed).normal(size=(N, D)).astype(np.float32)
    for a, b in pairs:
        x[b] = x[a] * 2 + noise * x[b]
    return x


def shelf(folder, models, clusters=(), near=(), groups=GROUPS):
    """Files of one data set, as arguments of find_neighbours; ``models`` name -> features."""
    x = next(iter(models.values()))
    files = write_cell(folder, x, LABELS, ["a", "b"], groups=groups, fold_of=FOLDS)
    if clusters:
        table, about = read_table(MANIFEST, files.manifest)
        values = [next((str(k) for k, c in enumerate(clusters) if i in c), None) for i in range(N)]
        column = table.column_names.index("cluster")
        write_table(MANIFEST, files.manifest, table.set_column(column, "cluster", [values]), about)
    named = [{"image_ids": [files.ids[i] for i in c]} for c in near]
    write_json(folder / "audit.json", {"duplicates": [], "near_duplicates": named})
    features = []
    for model, values in models.items():
        features.append(folder / f"{model}.parquet")
        write_table(FEATURES, features[-1], feature_table(files.ids, values), {"model": model})
    return features, files.manifest, folder / "audit.json", files.splits, folder / "out.json"


def found(arguments):
    find_neighbours(*arguments)
    return json.loads(arguments[-1].read_text())


def rows(result):
    return [tuple(int(i[-4:]) for i in p["image_ids"]) for p in result["pairs"]]


def test_planted_pairs_are_found_with_their_facts(tmp_path):
    result = found(shelf(tmp_path, {m: cloud(s) for s, m in enumerate("abc")}, clusters=[{50, 51}]))
    assert rows(result) == [(10, 11), (21, 34)]  # across the hold-out first; 50 and 51 share a hash cluster
    first, second = result["pairs"]
    assert (first["straddles"], first["same_label"], first["same_group"]) == (True, False, True)
    assert (second["straddles"], second["labels"], second["same_group"]) == (False, ["b", "a"], False)
    assert first["models"] == 3
    assert first["cosine"] == pytest.approx(1, abs=1e-4)
    assert (result["n_pairs"], result["n_straddling"], result["n_crossing"]) == (2, 1, 2)
    assert (result["n"], result["n_test"], result["protocol"]) == (60, 12, "image")


def test_a_cloud_without_duplicates_has_no_candidates(tmp_path):
    assert found(shelf(tmp_path, {m: cloud(s, ()) for s, m in enumerate("abc")}))["n_pairs"] == 0


def test_the_limit_finds_near_pictures_and_not_the_tail_of_a_cloud():
    """1,000 points of 14 dimensions, of which 20 have a copy at 0.3 of the usual distance, 20 at 0.6."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1000, 15))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    none = np.full(1000, -1)
    images = Images([""] * 1000, none, [""] * 1000, none, [None] * 1000, none, np.arange(1000) < 200)
    usual = neighbours.scale(nearest(x, images))
    assert len(candidates(nearest(x, images))) <= 5  # 1 % of the images
    for first, share in ((0, 0.3), (40, 0.6)):
        for i in range(first, first + 40, 2):
            aside = random.normal(size=15)
            aside -= (aside @ x[i]) * x[i]
            cosine = 1 - share * usual
            x[i + 1] = cosine * x[i] + np.sqrt(1 - cosine**2) * aside / np.linalg.norm(aside)
    found = candidates(nearest(x, images))
    assert {(i, i + 1) for i in range(0, 40, 2)} <= set(found)
    assert not {(i, i + 1) for i in range(40, 80, 2)} & set(found)


def test_a_pair_needs_more_than_half_of_the_models(tmp_path):
    half = {"a": cloud(0), "b": cloud(1), "c": cloud(2, ()), "d": cloud(3, ())}
    assert found(shelf(tmp_path, half))["n_pairs"] == 0
    half["d"] = cloud(3)
    result = found(shelf(tmp_path, half))
    assert sorted(rows(result)) == PLANTED
    assert {p["models"] for p in result["pairs"]} == {3}


def test_a_third_picture_beside_a_hash_cluster_is_found(tmp_path):
    """20 and 21 are copies; 34 resembles both, and would else never be anyone's nearest."""
    x = cloud(0, [(21, 34)])
    x[20] = x[21]
    arguments = shelf(tmp_path, {"a": x}, near=[(20, 21)])
    assert rows(found(arguments)) in ([(20, 34)], [(21, 34)])


def test_shares_and_chance_by_hand(tmp_path):
    """Nearest training image of each hold-out image by scikit-learn, judged one by one."""
    x = cloud(4)
    arguments = shelf(tmp_path, {"a": x}, clusters=[{10, 11}, {0, 1}], near=[(50, 51)])
    result = found(arguments)
    train = np.flatnonzero(~TEST)
    knn = NearestNeighbors(n_neighbors=1, metric="cosine").fit(x[train].astype(float))
    distance, index = knn.kneighbors(x[TEST].astype(float))
    near = dict(zip(np.flatnonzero(TEST), train[index[:, 0]], strict=True))
    model = result["models"][0]
    assert model["same_label"] == np.mean([LABELS[i] == LABELS[j] for i, j in near.items()])
    grouped = [i for i in near if GROUPS[i]]
    assert model["same_group"] == np.mean([GROUPS[i] == GROUPS[near[i]] for i in grouped])
    mates = [{10, 11}, {0, 1}, {50, 51}]
    assert model["cluster_mate"] == np.mean([any({i, j} == m for m in mates) for i, j in near.items()])
    assert model["cluster_mate"] >= 2 / 12
    assert model["cosine"]["0.5"] == pytest.approx(np.median(1 - distance))
    assert model["cosine"]["0.95"] == pytest.approx(np.quantile(1 - distance, 0.95))
    assert (model["model"], model["d"]) == ("a", D)
    assert result["chance"]["same_label"] == pytest.approx(0.5)
    expected = np.mean([sum(GROUPS[j] == GROUPS[i] for j in train) / len(train) for i in grouped])
    assert result["chance"]["same_group"] == pytest.approx(expected)


def test_without_groups_nothing_is_said_about_them(tmp_path):
    result = found(shelf(tmp_path, {"a": cloud(0)}, groups=[None] * N))
    assert result["models"][0]["same_group"] is result["chance"]["same_group"] is None
    assert {p["same_group"] for p in result["pairs"]} == {None}


def test_blocks_do_not_change_the_answer(tmp_path, monkeypatch):
    arguments = shelf(tmp_path, {"a": cloud(5)}, clusters=[{10, 11}])
    whole = found(arguments)
    monkeypatch.setattr("discern.analysis.knn.BLOCK_ENTRIES", 7 * N)
    assert found(arguments) == whole


def test_clusters_of_manifest_and_audit_are_brought_together(tmp_path):
    arguments = shelf(tmp_path, {"a": cloud(0)}, clusters=[{1, 2}, {7, 8}], near=[(2, 3), (8, 9), (20, 21)])
    images, about = read_images(*arguments[1:4])
    clusters = {c: set(np.flatnonzero(images.clusters == c)) for c in set(images.clusters.tolist()) - {-1}}
    assert sorted(map(sorted, clusters.values())) == [[1, 2, 3], [7, 8, 9], [20, 21]]
    assert about == {"dataset": "planted", "protocol": "image"}


def test_a_data_set_of_one_cluster_has_no_candidates():
    ids = [f"i{i}" for i in range(4)]
    one = np.zeros(4, dtype=int)
    images = Images(ids, one, ids, one - 1, [None] * 4, one, np.arange(4) == 0)
    near = nearest(unit_vectors(np.eye(4) + 1), images)
    assert np.isinf(near.distance).all()
    assert candidates(near) == []


def test_the_list_is_cut_and_the_count_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "LISTED", 1)
    result = found(shelf(tmp_path, {"a": cloud(0)}))
    assert (len(result["pairs"]), result["n_pairs"]) == (1, 3)


def test_zero_features_and_foreign_images_are_refused(tmp_path):
    x = cloud(0)
    x[3] = 0
    with pytest.raises(DiscernError, match="a feature is zero"):
        find_neighbours(*shelf(tmp_path, {"a": x}))
    arguments = shelf(tmp_path, {"a": cloud(0)})
    write_table(FEATURES, arguments[0][0], feature_table(["x"], x[:1]), {"model": "a"})
    with pytest.raises(DiscernError, match="is missing"):
        find_neighbours(*arguments)
