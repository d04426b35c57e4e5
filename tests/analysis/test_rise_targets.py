"""Where the heat ought to lie, and how well a map agrees."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.analysis.rise.targets import score_target, target_in_frame
from discern.data.pictures.images import Pictures
from discern.errors import DiscernError
from discern.model_card import Preprocess

SQUASH = Preprocess(resize="squash", size=20)
CROP = Preprocess(resize="shortest", size=40, crop=20)
NONE = Pictures(Path(), Path())


def row(mask_path=None, boxes=None):
    return {"mask_path": mask_path, "boxes": boxes}


def test_no_target_is_none():
    assert target_in_frame(row(), NONE, (40, 40), SQUASH) is None
    assert target_in_frame(row(boxes=[]), NONE, (40, 40), SQUASH) is None


def test_boxes_are_filled_half_open_and_clipped():
    target = target_in_frame(row(boxes=[[0, 0, 20, 10], [30, 20, 99, 99]]), NONE, (40, 40), SQUASH)
    expected = np.zeros((20, 20), bool)
    expected[:5, :10] = expected[10:, 15:] = True
    np.testing.assert_array_equal(target, expected)


def test_mask_file_goes_through_the_crop(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    target = target_in_frame(row("mask.png"), Pictures(tmp_path, tmp_path), (40, 40), CROP)
    np.testing.assert_array_equal(target, np.arange(20)[:, None] < np.full(20, 10))
    outside = target_in_frame(row(boxes=[[0, 0, 8, 8]]), Pictures(tmp_path, tmp_path), (40, 40), CROP)
    assert outside is None


def test_mask_of_another_size_is_refused(tmp_path):
    Image.new("L", (10, 10)).save(tmp_path / "mask.png")
    with pytest.raises(DiscernError, match=r"mask\.png: the mask has 10 x 10 pixels, its image has 40 x 40"):
        target_in_frame(row("mask.png"), Pictures(tmp_path, tmp_path), (40, 40), SQUASH)


def test_scores_of_a_known_map():
    saliency = np.zeros((10, 10))
    saliency[0, :5] = [5, 4, 3, 2, 1]  # the hottest 5 %
    target = np.zeros((10, 10), bool)
    target[:, :2] = True
    assert score_target(saliency, target) == (True, 0.4, 0.2)
    assert score_target(saliency, ~target) == (False, 0.6, 0.8)
