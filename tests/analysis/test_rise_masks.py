"""The masks on the fly are those of the authors' code: upsampled, shifted, cropped."""

import hashlib

import numpy as np
import pytest

from discern.analysis.rise.masks import draw_masks, upsampling


def all_masks(bank):
    out = np.empty((len(bank), *bank.size), np.float32)
    bank.fill(0, out)
    return out


@pytest.mark.parametrize(
    ("size", "grid"),
    [((224, 224), 8), ((224, 224), 7), ((32, 32), 8), ((100, 100), 6), ((152, 91), 8), ((40, 80), 8)],
)
def test_masks_equal_resize_shift_crop(size, grid):
    """Cell by ceil, bilinear with mirrored border, random offset: step by step with scikit-image."""
    resize = pytest.importorskip("skimage.transform").resize
    bank = draw_masks(5, grid, 0.5, size, seed=3)
    cells = [int(np.ceil(pixels / grid)) for pixels in size]
    for coins, (y, x), mask in zip(bank.grids, bank.offsets, all_masks(bank), strict=True):
        big = resize(
            coins.astype("float32"),
            [(grid + 1) * cell for cell in cells],
            order=1,
            mode="reflect",
            anti_aliasing=False,
        )
        np.testing.assert_allclose(mask, big[y : y + size[0], x : x + size[1]], atol=1e-6)


def test_offsets_use_the_whole_cell_and_no_more():
    bank = draw_masks(2000, 8, 0.5, (224, 224), seed=0)
    assert bank.offsets.min() == 0
    assert bank.offsets.max() == 27


def test_square_masks_are_those_of_earlier_versions():
    """The digest was made when masks knew one side only."""
    bank = draw_masks(40, 8, 0.5, (100, 100), seed=7)
    found = hashlib.sha256(bank.grids.tobytes() + bank.offsets.tobytes())
    assert found.hexdigest().startswith("b09d671be36ab0a1")


def test_offsets_of_a_rectangle_use_each_sides_own_cell():
    offsets = draw_masks(2000, 8, 0.5, (160, 80), seed=0).offsets
    assert offsets.min(axis=0).tolist() == [0, 0]
    assert offsets.max(axis=0).tolist() == [19, 9]


def test_every_pixel_is_kept_with_probability_p():
    masks = all_masks(draw_masks(4000, 4, 0.3, (24, 24), seed=0))
    assert abs(masks.mean() - 0.3) < 0.005
    # Standard error of one pixel is below 0.5 / sqrt(4000) = 0.008.
    assert np.abs(masks.mean(axis=0) - 0.3).max() < 0.04


def test_weights_of_every_pixel_sum_to_one():
    for grid in (1, 2, 8):
        np.testing.assert_allclose(upsampling(grid, 5).sum(axis=1), 1, atol=1e-6)


def test_seed_decides_and_parts_equal_the_whole():
    bank, same, other = (draw_masks(9, 8, 0.5, (64, 64), seed) for seed in (1, 1, 2))
    whole = all_masks(bank)
    np.testing.assert_array_equal(whole, all_masks(same))
    assert not np.array_equal(whole, all_masks(other))
    part = np.empty((4, 64, 64), np.float32)
    bank.fill(5, part)
    np.testing.assert_array_equal(part, whole[5:])


def test_a_bank_is_far_smaller_than_its_masks():
    bank = draw_masks(4096, 8, 0.5, (224, 224), seed=0)
    held = bank.grids.nbytes + bank.offsets.nbytes + sum(weights.nbytes for weights in bank.weights)
    assert held < 4096 * 224 * 224 * 4 / 1000


def test_every_second_mask_of_pairs_is_the_complement():
    bank = draw_masks(20, 8, 0.5, (40, 32), seed=5, pairs=True)
    masks = all_masks(bank)
    np.testing.assert_allclose(masks[::2] + masks[1::2], 1, atol=1e-6)
    np.testing.assert_array_equal(masks[::2], all_masks(draw_masks(10, 8, 0.5, (40, 32), seed=5)))


def test_pairs_need_an_even_number_and_a_fair_coin():
    with pytest.raises(ValueError, match="even number"):
        draw_masks(7, 8, 0.5, (32, 32), seed=0, pairs=True)
    with pytest.raises(ValueError, match=r"even number and p = 0\.5, not 8 and 0\.4"):
        draw_masks(8, 8, 0.4, (32, 32), seed=0, pairs=True)


def test_first_masks_are_those_of_the_whole_bank():
    bank = draw_masks(12, 8, 0.5, (40, 32), seed=5)
    np.testing.assert_array_equal(all_masks(bank.first(5)), all_masks(bank)[:5])
