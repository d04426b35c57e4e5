"""The transform of volumes: where planted voxels come to lie, and with which value."""

import nibabel as nib
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from discern.encoders.describe import describe
from discern.encoders.volumes import apply, interpolate, orient, positions
from discern.model_card import VolumePreprocess

AIR = -1000


def transform(**changes):
    fields = {
        "spacing": (1, 1, 1),
        "window": (-1000, 1000),
        "scaled": (0, 1),
        "size": (8, 8, 8),
        "fill": 0,
    }
    return VolumePreprocess.model_validate(fields | changes)


def planted(shape, place, value=1000):
    """Air with one voxel, whose place is in right, front, up coordinates."""
    voxels = np.full(shape, AIR, np.float32)
    voxels[place] = value
    return voxels


def as_stored(voxels, codes, spacing=(1.0, 1.0, 1.0)):
    """A RAS volume as a file with other axes stores it: voxels and affine."""
    ras = nib.Nifti1Image(voxels, np.diag([*spacing, 1]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(tuple("RAS")), nib.orientations.axcodes2ornt(tuple(codes))
    )
    stored = ras.as_reoriented(turn)
    assert "".join(nib.aff2axcodes(stored.affine)) == codes
    return np.asarray(stored.dataobj), stored.affine


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "ASR", "SLP", "IPR"])
def test_a_voxel_is_found_whatever_the_axes_of_the_file(codes):
    stored, affine = as_stored(planted((8, 8, 8), (1, 2, 5)), codes)
    result = apply(stored, affine, transform())
    assert result.shape == (1, 8, 8, 8)
    assert result.dtype == np.float32
    assert np.argwhere(result[0] == 1).tolist() == [[1, 2, 5]]
    assert result.sum() == 1


@pytest.mark.parametrize(
    ("orientation", "place"), [("SRA", [5, 1, 2]), ("SLP", [5, 6, 5]), ("IAR", [2, 2, 1])]
)
def test_the_array_has_the_axes_that_the_card_names(orientation, place):
    stored, affine = as_stored(planted((8, 8, 8), (1, 2, 5)), "LAS")
    result = apply(stored, affine, transform(orientation=orientation))
    assert np.argwhere(result[0] == 1).tolist() == [place]


def test_spacing_goes_with_its_axis():
    stored, affine = as_stored(np.zeros((4, 5, 6), np.float32), "SPL", spacing=(2.0, 3.0, 4.0))
    turned, spacing = orient(stored, affine, "ARS")
    assert turned.shape == (5, 4, 6)
    assert spacing == (3.0, 2.0, 4.0)


@pytest.mark.parametrize("grid", ["edges", "centres"])
def test_a_linear_ramp_stays_one(grid):
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None, None] * 40 - 400, (20, 4, 4))
    result = apply(ramp, np.diag([3.0, 1, 1, 1]), transform(grid=grid, spacing=(2, 1, 1), size=(28, 4, 4)))
    values = result[0, 1:27, 0, 0].astype(np.float64) * 2000 - 1000
    places = positions(20, 3.0, 2.0, grid)
    assert len(places) == 30  # 20 * 3 / 2; and 19 * 3 / 2 + 1 = 29.5 to the even number
    start = (len(places) - 28) // 2
    assert np.allclose(values, places[start + 1 : start + 27] * 40 - 400, atol=1e-3)


@pytest.mark.parametrize(("count", "spacing", "target"), [(31, 0.7, 1.5), (17, 2.5, 1.5), (12, 1.0, 1.0)])
def test_edges_are_torch_s_interpolate(count, spacing, target):
    volume = np.random.default_rng(0).normal(size=(count, 5, 6)).astype(np.float32)
    places = positions(count, spacing, target, "edges")
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(volume)[None, None].double(),
        size=(int(count * spacing / target), 5, 6),
        mode="trilinear",
        align_corners=False,
    )
    assert np.allclose(interpolate(volume, places, 0), theirs[0, 0].numpy(), atol=1e-6)


def test_centres_keep_the_first_voxel_and_round_halves_to_even():
    assert positions(100, 0.75, 1.5, "centres").tolist() == list(range(0, 100, 2))
    assert len(positions(102, 0.75, 1.5, "centres")) == 52  # 50.5 + 1 = 51.5
    assert positions(5, 1.0, 0.5, "centres").tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]


def test_the_window_comes_before_or_after_the_resampling():
    pair = np.array([-1000, 3000], np.float32).reshape(2, 1, 1)
    fine = {"spacing": (0.5, 1, 1), "size": (3, 1, 1)}
    last = apply(pair, np.eye(4), transform(**fine))
    first = apply(pair, np.eye(4), transform(window_first=True, **fine))
    assert last[0, :, 0, 0].tolist() == [0, 1, 1]  # the middle, 1000, is the window's end
    assert first[0, :, 0, 0].tolist() == [0, 0.5, 1]


def test_centred_crop_and_padding_with_the_fill():
    volume = np.arange(10, dtype=np.float32).reshape(10, 1, 1) * 100
    v = transform(window=(0, 1000), scaled=(-1, 1), size=(4, 3, 2), fill=-7)
    result = apply(volume, np.eye(4), v)[0]
    assert np.allclose(result[:, 1, 0], np.array([3, 4, 5, 6]) / 5 - 1)
    assert (np.delete(result, 1, axis=1) == -7).all()
    assert (result[:, 1, 1] == -7).all()


def test_the_words_name_every_step_in_order():
    v = transform(orientation="SLP", grid="edges", window_first=True)
    assert describe(v) == (
        "axes SLP; clipped to -1000 to 1000 HU; resampled to 1 x 1 x 1 mm (trilinear, outer edges kept); "
        "scaled to 0 to 1; centre crop or padding with 0 to 8 x 8 x 8 voxels"
    )
    assert describe(transform()).index("resampled") < describe(transform()).index("clipped")


@pytest.mark.parametrize(
    "wrong",
    [{"orientation": "RAR"}, {"orientation": "XYZ"}, {"orientation": "RA"}, {"window": (5, 5)},
     {"spacing": (0, 1, 1)}, {"size": (4, 4, 0)}, {"grid": "corners"}],
)  # fmt: skip
def test_a_card_with_a_mistake_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        transform(**wrong)
