"""Windows as their definitions have them, in numbers that can be checked by hand."""

import re
from pathlib import Path

import numpy as np
import pytest

from discern.data.pictures.windows import NAMED, Stored, eight_bit, sigmoid
from discern.decoding_card import Level, Range, Window
from discern.errors import DiscernError

RNG = np.random.default_rng(0)
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "decoding.md").read_text()


def seen(values, window, limits=(-32768, 32767), **known):
    return eight_bit(Stored(np.asarray(values), limits, **known), window).tolist()


def test_min_max():
    assert seen(np.array([-1000, 0, 1000, 3000], np.int16), "min_max") == [0, 64, 128, 255]
    assert seen(np.array([-0.5, 0, 0.5, 1.5], np.float32), "min_max", None) == [0, 64, 128, 255]


@pytest.mark.parametrize("window", ["min_max", "percentile", "file"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_constant_picture_holds_nothing(window, dtype, inverted):
    assert seen(np.full(3, 777, dtype), window, inverted=inverted) == [0, 0, 0]


def test_values_that_are_not_finite_are_black():
    values = np.array([np.nan, 0, 2, np.inf, -np.inf])
    assert seen(values, "min_max", None) == [0, 0, 255, 0, 0]
    assert seen(values, "min_max", None, inverted=True) == [0, 255, 0, 0, 0]
    assert seen(values[[0, 3]], "min_max", None) == [0, 0]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_percentile_is_that_of_numpy(dtype):
    values = (RNG.gamma(2, 300, 5000) + 50).astype(dtype)
    low, high = np.percentile(values, [0.5, 99.5])
    wanted = np.round(np.clip((values - low) / (high - low), 0, 1) * 255)
    assert np.array_equal(seen(values, "percentile", None), wanted)


def test_percentile_of_a_picture_that_is_nearly_all_black():
    values = np.zeros(10_000, np.uint16)
    values[7] = 9
    assert np.flatnonzero(seen(values, "percentile")).tolist() == [7]


def test_full_range():
    assert seen(np.array([0, 257, 65535], np.uint16), "full_range", (0, 65535)) == [0, 1, 255]
    assert seen(np.array([0, 4095], np.uint16), "full_range", (0, 4095)) == [0, 255]
    with pytest.raises(DiscernError, match="floats have no full range; name"):
        seen(np.zeros(2), "full_range", None)


def test_range_is_clipped_outside():
    assert seen(np.array([-5, 0, 50, 100, 900]), Range(low=0, high=100)) == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_a_level_counts_whole_numbers_as_dicom_does(dtype):
    values = np.array([-161, -160, -159, 40, 238, 239, 240], dtype)
    # 400 values, -160 to 239: 255 * (x + 160) / 399
    assert seen(values, Level(center=40, width=400)) == [0, 0, 1, 128, 254, 255, 255]
    assert seen(values, "ct_soft_tissue") == [0, 0, 1, 128, 254, 255, 255]
    assert seen(np.array([9, 10], dtype), Level(center=10, width=1)) == [0, 255]
    assert seen(np.array([9, 10], dtype), Level(center=10, width=0.5)) == [0, 255]


def test_a_level_of_floats_is_exact():
    assert seen(np.array([0, 0.25, 0.5, 1]), Level(center=0.5, width=1), None) == [0, 64, 128, 255]


def test_modality_goes_before_the_window_and_inversion_after_it():
    grey = dict(modality=lambda v: 2 * v - 1000, inverted=True)
    values = np.array([0, 450, 500, 1000], np.uint16)
    assert seen(values, Range(low=-100, high=100), **grey) == [255, 255, 128, 0]
    assert seen(values, "min_max", **grey) == [255, 140, 128, 0]
    assert seen(values, "full_range", (0, 1000), **grey) == [255, 140, 128, 0]


def test_padding_is_black_and_not_counted():
    values = np.array([-2000, -1999, 0, 100], np.int16)
    assert seen(values, "min_max", padding=(-2000, -1999)) == [0, 0, 0, 255]
    assert seen(values, "min_max", padding=(-2000, -1999), inverted=True) == [0, 0, 255, 0]
    assert seen(values.astype(np.float32), "min_max", None, padding=(-2000, -1999)) == [0, 0, 0, 255]
    assert seen(values[:2], "min_max", padding=(-2000, -1999)) == [0, 0]


def test_the_window_of_the_header_serves_file_alone():
    grey = dict(header=sigmoid(50, 20))
    values = np.array([0, 50, 100], np.uint16)
    assert seen(values, "file", **grey) == [0, 128, 255]
    assert seen(values, "file", **grey, inverted=True) == [255, 128, 0]
    assert seen(values, Range(low=0, high=50), **grey) == [0, 255, 255]


def test_colours_share_one_window():
    values = np.array([[[0, 100, 200]]], np.uint16)
    assert seen(values, "min_max") == [[[0, 128, 255]]]


def test_a_table_of_values_and_the_values_themselves_give_the_same():
    values = RNG.integers(-3000, 3000, (40, 50)).astype(np.int16)
    known = dict(modality=lambda v: 0.7 * v - 10, padding=(-3000, -2500))
    for window in ("min_max", "percentile", "full_range", "ct_lung", Range(low=-7, high=33.3)):
        narrow = eight_bit(Stored(values, (-32768, 32767), **known), window)
        wide = eight_bit(Stored(values.astype(np.int32), (-32768, 32767), **known), window)
        assert np.array_equal(narrow, wide), window


def test_the_page_has_the_named_windows():
    told = {
        name: (float(c), float(w)) for name, c, w in re.findall(r"\| `(ct_\w+)` \| (\S+) \| (\S+) \|", PAGE)
    }
    assert told == {name: (level.center, level.width) for name, level in NAMED.items()}
    assert set(told) <= set(Window.__args__[0].__args__)
