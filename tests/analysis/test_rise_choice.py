"""Which images are explained: hold-out predictions of one fold, classes in turn, row order ignored."""

import numpy as np
import pytest

from discern.analysis.rise.choice import Choice, choose_images, read_fold
from discern.config import RiseSettings
from discern.contracts import PREDICTIONS, write_table
from discern.errors import DiscernError


def images(n_classes=3, per_class=10, wrong_every=4):
    return [
        Choice(f"c{k}_{i:02}", k, (k + (i % wrong_every == 0)) % n_classes, np.zeros(n_classes))
        for k in range(n_classes)
        for i in range(per_class)
    ]


def test_each_class_gets_its_right_and_wrong_images():
    chosen = choose_images(images(), RiseSettings(correct_per_class=2, wrong_per_class=1))
    assert [c.true for c in chosen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [c.correct for c in chosen] == [True, True, False] * 3


def test_row_order_does_not_matter_and_the_seed_does():
    pool, settings = images(per_class=40), RiseSettings(correct_per_class=3)
    shuffled = [pool[i] for i in np.random.default_rng(5).permutation(len(pool))]
    names = [c.image_id for c in choose_images(pool, settings)]
    assert [c.image_id for c in choose_images(shuffled, settings)] == names
    other = choose_images(pool, RiseSettings(correct_per_class=3, seed=1))
    assert [c.image_id for c in other] != names


def test_limit_gives_every_class_one_image_before_any_has_two():
    settings = RiseSettings(correct_per_class=5, wrong_per_class=5, max_images=4)
    chosen = choose_images(images(), settings)
    assert [c.true for c in chosen] == [0, 0, 1, 2]
    assert [c.correct for c in chosen] == [True, False, True, True]


def test_models_right_about_the_same_images_show_the_same_images():
    one = choose_images(images(wrong_every=100), RiseSettings(wrong_per_class=0))
    spoilt = [c for c in images(wrong_every=100) if c.image_id not in {o.image_id for o in one}]
    spoilt = [Choice(c.image_id, c.true, (c.true + 1) % 3, c.decision) for c in spoilt]
    both = choose_images(one + spoilt, RiseSettings(wrong_per_class=0))
    assert [c.image_id for c in both] == [c.image_id for c in one]


def test_nothing_to_explain_is_said():
    with pytest.raises(DiscernError, match="no hold-out image to explain"):
        choose_images(images(), RiseSettings(correct_per_class=0, wrong_per_class=0))


def test_unknown_fold_names_the_folds_that_exist(tmp_path):
    path = tmp_path / "predictions.parquet"
    columns = {
        "image_id": ["a", "a"],
        "fold": [0, 1],
        "true": [0, 0],
        "predicted": [0, 1],
        "decision": [[1.0, -1.0], [-1.0, 1.0]],
    }
    write_table(PREDICTIONS, path, columns, {})
    assert [c.predicted for c in read_fold(path, 1)] == [1]
    with pytest.raises(DiscernError, match=r"fold 7[\s\S]*allowed: 0, 1"):
        read_fold(path, 7)
