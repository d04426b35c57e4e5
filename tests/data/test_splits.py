"""Groups and clusters stay whole, classes keep their shares, and only the seed decides."""

import numpy as np
import pyarrow as pa
import pytest

from discern.config import SplitSettings
from discern.contracts import MANIFEST, SPLITS, read_table, write_table
from discern.data.splits import split_dataset
from discern.errors import DiscernError

CLASSES = ["a", "b", "c"]


def manifest(path, labels, groups=None, order=None, clusters=None):
    n = len(labels)
    order = range(n) if order is None else order
    groups = [None] * n if groups is None else groups
    clusters = [None] * n if clusters is None else clusters
    nothing = [None] * n
    columns = {
        "image_id": [f"i{i:04d}" for i in order],
        "path": [f"{i}.png" for i in order],
        "sha256": [str(i) for i in order],
        "label": [labels[i] for i in order],
        "label_name": [CLASSES[labels[i]] for i in order],
        "group": [groups[i] for i in order],
        "cluster": [clusters[i] for i in order],
        "volume": nothing,
        "official_split": nothing,
        "width": [1] * n,
        "height": [1] * n,
        "mode": ["L"] * n,
        "mask_path": nothing,
        "boxes": nothing,
    }
    write_table(MANIFEST, path, columns, {"dataset": "x", "classes": CLASSES, "group_key": "patient"})
    return path


def split(path, protocol="image", **settings):
    out = path.with_name("splits.parquet")
    split_dataset(path, protocol, SplitSettings(**settings), out)
    table, metadata = read_table(SPLITS, out)
    return table, metadata


LABELS = [0] * 50 + [1] * 31 + [2] * 23
GOLDEN = {
    "image": [0, 3, 9, 19, 21, 36, 39, 44, 46, 47, 50, 54, 55, 56, 71, 80, 85, 87, 92, 96, 102],
    "group": [3, 4, 5, 12, 13, 14, 24, 25, 26, 54, 55, 56, 72, 73, 74, 84, 85, 86, 96, 97, 98],
}


def test_image_protocol_is_stratified_within_one_image(tmp_path):
    table, metadata = split(manifest(tmp_path / "m.parquet", LABELS))
    role, fold = np.array(table["role"].to_pylist()), np.array(table["fold"].to_pylist(), dtype=object)
    labels = np.array(LABELS)
    assert metadata["n_test"] == (role == "test").sum() == 21
    assert all(f is None for f in fold[role == "test"])
    for label in range(3):
        n = (labels == label).sum()
        in_test = ((role == "test") & (labels == label)).sum()
        assert abs(in_test - 0.2 * n) <= 1
        for f in range(5):
            assert abs(((fold == f) & (labels == label)).sum() - (n - in_test) / 5) <= 1


def test_equal_seed_equal_split_in_any_row_order(tmp_path):
    groups = [f"g{i // 3}" for i in range(len(LABELS))]
    order = np.random.default_rng(1).permutation(len(LABELS))
    straight = manifest(tmp_path / "m.parquet", LABELS, groups)
    shuffled = manifest(tmp_path / "s.parquet", LABELS, groups, order)
    for protocol in ("image", "group"):
        first = split(straight, protocol)[0]
        assert first.equals(split(shuffled, protocol)[0])
        assert not first.equals(split(straight, protocol, seed=1)[0])


def test_groups_never_straddle_and_null_is_a_group_of_its_own(tmp_path):
    rng = np.random.default_rng(2)
    groups = [None if i % 10 == 0 else f"g{rng.integers(40)}" for i in range(len(LABELS))]
    table, metadata = split(manifest(tmp_path / "m.parquet", LABELS, groups), "group")
    parts = {}
    for group, role, fold in zip(groups, table["role"].to_pylist(), table["fold"].to_pylist(), strict=True):
        if group is not None:
            parts.setdefault(group, set()).add((role, fold))
    assert len(parts) > 30
    assert all(len(where) == 1 for where in parts.values())
    # Were nulls one group, all eleven images without one would share a part.
    alone = {
        (r, f)
        for g, r, f in zip(groups, *table.select(["role", "fold"]).to_pydict().values(), strict=True)
        if g is None
    }
    assert len(alone) > 1
    assert metadata["n_groups"] == len(parts) + groups.count(None)
    assert 0.1 < metadata["n_test"] / len(LABELS) < 0.3


def test_the_image_protocol_does_leak_the_same_groups(tmp_path):
    groups = [f"g{i // 3}" for i in range(len(LABELS))]
    table, _ = split(manifest(tmp_path / "m.parquet", LABELS, groups))
    test = {g for g, role in zip(groups, table["role"].to_pylist(), strict=True) if role == "test"}
    train = {g for g, role in zip(groups, table["role"].to_pylist(), strict=True) if role == "train"}
    assert test & train


def test_too_small_a_class_is_named(tmp_path):
    path = manifest(tmp_path / "m.parquet", [0] * 30 + [1] * 30 + [2] * 5)
    with pytest.raises(DiscernError, match="class 'c' has 5 images, too few for a hold-out and 5 folds"):
        split(path)


def test_a_class_in_one_group_is_named_with_its_groups(tmp_path):
    labels = [0] * 40 + [1] * 40 + [2] * 10
    groups = [f"g{i // 2}" for i in range(80)] + ["only"] * 10
    with pytest.raises(DiscernError, match="class 'c' has 1 groups"):
        split(manifest(tmp_path / "m.parquet", labels, groups), "group")
    groups[80:] = ["one"] * 5 + ["two"] * 5
    with pytest.raises(
        DiscernError, match=r"class 'c' \(10 images in 2 groups\) is missing from the training"
    ):
        split(manifest(tmp_path / "m.parquet", labels, groups), "group")


def test_too_few_groups_and_no_groups(tmp_path):
    groups = [f"g{i % 4}" for i in range(len(LABELS))]
    with pytest.raises(DiscernError, match="4 groups, the hold-out and 5 folds need 6"):
        split(manifest(tmp_path / "m.parquet", LABELS, groups), "group")
    with pytest.raises(DiscernError, match="no two images share a group"):
        split(manifest(tmp_path / "m.parquet", LABELS), "group")


def test_holdout_and_folds_are_settings(tmp_path):
    path = manifest(tmp_path / "m.parquet", LABELS)
    table, metadata = split(path, holdout=0.5, folds=2)
    assert metadata["n_test"] == 52
    assert set(table["fold"].to_pylist()) == {None, 0, 1}
    assert table.schema.field("fold").type == pa.int8()


def sides(table, names):
    """The parts in which each group or cluster is."""
    found = {}
    for name, role, fold in zip(names, table["role"].to_pylist(), table["fold"].to_pylist(), strict=True):
        if name is not None:
            found.setdefault(name, set()).add((role, fold))
    return found


def paired(n, share=0.5, seed=3):
    """Clusters of two images in places that have nothing to do with labels or groups."""
    order = np.random.default_rng(seed).permutation(n)[: int(n * share) // 2 * 2]
    clusters = [None] * n
    for k, pair in enumerate(order.reshape(-1, 2).tolist()):
        for i in pair:
            clusters[i] = f"c{k}"
    return clusters


def test_clusters_are_ignored_by_default_and_the_leak_is_counted(tmp_path):
    clusters = paired(len(LABELS))
    plain, about = split(manifest(tmp_path / "m.parquet", LABELS))
    table, leaky = split(manifest(tmp_path / "c.parquet", LABELS, clusters=clusters))
    assert table.equals(plain)
    assert (about["straddling_clusters"], about["test_images_in_straddling_clusters"]) == (0, 0)
    both = [c for c, parts in sides(table, clusters).items() if len({role for role, _ in parts}) == 2]
    assert leaky["straddling_clusters"] == len(both) > 0
    assert leaky["test_images_in_straddling_clusters"] == len(both)  # one of the two is in the hold-out
    assert (leaky["straddling_groups"], leaky["duplicates"]) == (None, "ignore")


def test_clusters_stay_together_without_any_group(tmp_path):
    clusters = paired(len(LABELS))
    path = manifest(tmp_path / "m.parquet", LABELS, clusters=clusters)
    table, about = split(path, duplicates="together")
    assert all(len(parts) == 1 for parts in sides(table, clusters).values())
    assert (about["straddling_clusters"], about["duplicates"]) == (0, "together")
    assert 0.1 < about["n_test"] / len(LABELS) < 0.3
    order = np.random.default_rng(1).permutation(len(LABELS))
    shuffled = manifest(tmp_path / "s.parquet", LABELS, order=order, clusters=clusters)
    assert table.equals(split(shuffled, duplicates="together")[0])


def test_without_clusters_keeping_them_together_changes_nothing(tmp_path):
    groups = [f"g{i // 3}" for i in range(len(LABELS))]
    path = manifest(tmp_path / "m.parquet", LABELS, groups)
    for protocol in ("image", "group"):
        assert split(path, protocol)[0].equals(split(path, protocol, duplicates="together")[0])


def test_groups_that_share_a_cluster_go_together(tmp_path):
    n = len(LABELS)
    groups = [None if i % 9 == 0 else f"g{i // 2}" for i in range(n)]
    clusters = paired(n, 0.4)
    path = manifest(tmp_path / "m.parquet", LABELS, groups, clusters=clusters)
    _, apart = split(path, "group")
    assert apart["straddling_groups"] == 0
    assert apart["straddling_clusters"] > 0  # leakage that no patient identifier shows
    table, about = split(path, "group", duplicates="together")
    assert (about["straddling_groups"], about["straddling_clusters"]) == (0, 0)
    for names in (groups, clusters):
        assert all(len(parts) == 1 for parts in sides(table, names).values())
    order = np.random.default_rng(4).permutation(n)
    shuffled = manifest(tmp_path / "s.parquet", LABELS, groups, order, clusters)
    assert table.equals(split(shuffled, "group", duplicates="together")[0])


def test_one_cluster_of_a_whole_class_is_named(tmp_path):
    clusters = [None] * 81 + ["all"] * 23
    path = manifest(tmp_path / "m.parquet", LABELS, clusters=clusters)
    with pytest.raises(DiscernError, match="class 'c' has 1 groups, too few"):
        split(path, duplicates="together")


def test_the_split_of_a_seed_does_not_change(tmp_path):
    """Golden: hold-outs of seed 0 as they were before clusters were known; published scores rest on them."""
    groups = [f"g{i // 3}" for i in range(len(LABELS))]
    path = manifest(tmp_path / "m.parquet", LABELS, groups)
    for protocol, want in GOLDEN.items():
        role = split(path, protocol)[0]["role"].to_pylist()
        assert [i for i, r in enumerate(role) if r == "test"] == want
