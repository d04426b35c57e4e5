"""Recipes on small synthetic scans with a planted truth, and on the one picture that is installed."""

from collections import defaultdict

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from discern.data.recipes import ihc, organs, overlay, planes
from discern.data.recipes.geometry import Jitter, draw_jitter, patch
from discern.data.recipes.samples import SLAB, slab
from discern.data.recipes.volumes import read_dicom, read_nifti
from discern.registry import Registry


def save_nifti(path, voxels, spacing, axes="RAS"):
    """Write voxels, given as [right, front, up], in another storage order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, np.diag([*spacing, 1.0]))
    want = nibabel.orientations.axcodes2ornt(axes)
    nibabel.save(image.as_reoriented(want), path)


# --------------------------------------------------------------------------- orientation


@pytest.fixture
def marked():
    """One bright voxel on the patient's right, in front, at the top."""
    voxels = np.zeros((7, 6, 5), np.int16)
    voxels[6, 5, 4] = 1000
    return voxels


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_nifti_of_any_storage_order_reads_the_same(tmp_path, marked, axes):
    save_nifti(tmp_path / "x.nii.gz", marked, (1.0, 2.0, 3.0), axes)
    volume = read_nifti(tmp_path / "x.nii.gz", "x")
    np.testing.assert_array_equal(volume.voxels, marked)
    assert volume.spacing == (1.0, 2.0, 3.0)


def test_dicom_fits_the_nifti_orientation(tmp_path, marked):
    # DICOM: columns to the patient's left, rows to the back, files in any order.
    pixels = marked[::-1, ::-1].transpose(1, 0, 2)
    for z in range(5):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.{z + 1}"
        item = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        item.SOPClassUID, item.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        item.ImagePositionPatient = [0, 0, 3.0 * z]
        item.PixelSpacing, item.RescaleSlope, item.RescaleIntercept = [2.0, 1.0], 1, -24
        item.Rows, item.Columns = pixels.shape[:2]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated = item.BitsStored = 16
        item.HighBit, item.PixelRepresentation = 15, 0
        item.PixelData = np.ascontiguousarray(pixels[:, :, z]).astype("<u2").tobytes()
        item.save_as(tmp_path / f"{9 - z}.dcm", enforce_file_format=True)
    volume = read_dicom(tmp_path, "x")
    np.testing.assert_array_equal(volume.voxels, marked - 24.0)
    assert volume.spacing == (1.0, 2.0, 3.0)


def test_planes_show_right_on_the_left_and_top_upwards(tmp_path, marked):
    save_nifti(tmp_path / "x.nii.gz", marked, (1.0, 2.0, 3.0))
    volume = read_nifti(tmp_path / "x.nii.gz", "x")
    for plane, index, spacing in (("axial", 4, (2, 1)), ("coronal", 5, (3, 1)), ("sagittal", 6, (3, 2))):
        assert np.argwhere(volume.plane(plane, index)).tolist() == [[0, 0]]
        assert volume.plane_spacing(plane) == spacing
    assert volume.place("axial", 6, 5) == (0, 0)
    assert volume.place("axial", 0, 0) == (5, 6)


# --------------------------------------------------------------------------- geometry


def test_patch_without_jitter_is_a_crop():
    picture = np.arange(400.0).reshape(20, 20)
    np.testing.assert_allclose(patch(picture, (1, 1), (9.5, 9.5), 8, 8), picture[6:14, 6:14], rtol=1e-5)


def test_patch_is_black_outside_and_keeps_spacing():
    picture = np.ones((10, 5))
    cut = patch(picture, (1.0, 2.0), (4.5, 2.0), 20, 20)
    assert cut.sum() == pytest.approx(100, rel=0.15)
    assert cut[:4].max() == 0


@pytest.mark.parametrize(
    ("jitter", "expected"),
    [
        (Jitter(mirror=True), lambda p: p[:, ::-1]),
        (Jitter(turn=90), lambda p: np.rot90(p, -1)),
        (Jitter(shift=(0.25, 0)), lambda p: np.vstack([p[2:], np.zeros((2, 8))])),
        (Jitter(zoom=2), lambda p: p[2:6, 2:6].repeat(2, 0).repeat(2, 1)),
    ],
    ids=["mirror", "turn", "shift", "zoom"],
)
def test_jitter_does_what_it_says(jitter, expected):
    picture = np.random.default_rng(0).random((8, 8))
    cut = patch(picture, (1, 1), (3.5, 3.5), 8, 8, jitter, nearest=True)
    np.testing.assert_allclose(cut, expected(picture), atol=1e-6)


def test_jitter_stays_within_its_limits():
    rng = np.random.default_rng(0)
    draws = [draw_jitter(rng, 0.1, 20, 0.2) for _ in range(200)]
    assert 0.09 < max(abs(s) for j in draws for s in j.shift) <= 0.1
    assert 18 < max(abs(j.turn) for j in draws) <= 20
    assert 0.8 <= min(j.zoom for j in draws) < 0.85 < 1.15 < max(j.zoom for j in draws) <= 1.2
    assert 60 < sum(j.mirror for j in draws) < 140


# --------------------------------------------------------------------------- organs


@pytest.fixture(scope="module")
def mr(tmp_path_factory):
    """A dark patient with a bright liver (20 slices) and a spleen that is too short."""
    folder = tmp_path_factory.mktemp("mr")
    voxels, mask = np.full((60, 60, 20), 100, np.int16), np.zeros((60, 60, 20), np.uint8)
    mask[10:20, 10:22] = 5
    mask[40:50, 40:50, :10] = 1
    voxels[mask == 5] = 800
    save_nifti(folder / "totalsegmentator/example_mr_sm.nii.gz", voxels, (3.0, 3.0, 3.0), "LPS")
    save_nifti(folder / "totalsegmentator/example_seg_mr.nii.gz", mask, (3.0, 3.0, 3.0))
    return list(organs.samples(folder, {"modality": "mr"}, 0))


def test_organ_masks_lie_on_the_organ(mr):
    assert {s.label for s in mr} == {"liver"}
    assert len(mr) == 20
    for sample in mr:
        inside = sample.picture[sample.mask].mean()
        assert inside > 200 > 120 > sample.picture[~sample.mask].mean()
        assert 0.05 < sample.mask.mean() < 0.25


def test_slabs_are_18_mm_of_whole_slices(mr):
    slices = defaultdict(set)
    for sample in mr:
        slices[sample.group].add(int(sample.name.split("_z")[1][:3]))
    assert sorted(slices) == [f"mr_d/z{i:02d}" for i in range(4)]
    for members in slices.values():
        assert max(members) - min(members) + 1 == len(members) <= SLAB / 3.0
    assert slab(5, 3.0) == 0
    assert slab(6, 3.0) == 1


def test_patches_differ_by_jitter_though_slices_do_not(mr):
    assert len({s.picture.tobytes() for s in mr}) == len(mr)


# --------------------------------------------------------------------------- planes


def test_empty_slices_are_left_out(tmp_path):
    voxels = np.zeros((30, 30, 60), np.uint8)
    voxels[5:25, 5:25, 20:40] = 200
    save_nifti(tmp_path / "x.nii.gz", voxels, (1.0, 1.0, 1.0))
    volume = planes.grey_t1(tmp_path / "x.nii.gz", "x")
    assert planes.filled_slices(volume, "axial", 3.0, 0.12) == [21, 24, 27, 30, 33, 36, 39]
    shown = planes.centred(volume.plane("coronal", 15), volume.plane_spacing("coronal"), None, 60)
    assert shown.shape == (60, 60)
    assert np.count_nonzero(shown) == pytest.approx(400, rel=0.2)


# --------------------------------------------------------------------------- histology


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    return list(ihc.samples(tmp_path_factory.mktemp("none"), {}, 0))


def test_neither_colour_nor_brightness_tells_the_compartment(windows):
    histograms = {np.bincount(s.picture.ravel(), minlength=256).tobytes() for s in windows}
    assert len(histograms) == 1
    assert {s.picture.shape for s in windows} == {(96, 96)}


def test_names_are_unique(windows):
    assert len({s.name for s in windows}) == len(windows) == 350


# --------------------------------------------------------------------------- printed words


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Four scans of plain grey whose axial slices alone are more than enough."""
    folder = tmp_path_factory.mktemp("overlay")
    grey = np.full((12, 12, 360), 40, np.int16)
    for place in (
        "totalsegmentator/example_ct.nii.gz",
        "totalsegmentator/aorta_report/example_ct.nii.gz",
        planes.MNI,
        planes.MEAN_HEAD,
    ):
        save_nifti(folder / place, grey, (20.0, 20.0, 3.0))
    return folder


@pytest.fixture(scope="module")
def variants(scans):
    """The first 24 pictures of every variant."""
    return {
        v: [s for s, _ in zip(overlay.samples(scans, {"variant": v}, 0), range(24), strict=False)]
        for v in overlay.VARIANTS
    }


def test_all_variants_share_names_labels_and_groups(variants):
    facts = {tuple((s.name, s.label, s.group) for s in samples) for samples in variants.values()}
    assert len(facts) == 1
    assert {s.label for s in variants["none"]} == {"breast", "axilla"}


def test_words_are_printed_inside_their_boxes_and_nowhere_else(variants):
    for variant in ("presence", "words", "fixed"):
        for sample, without in zip(variants[variant], variants["readouts"], strict=True):
            changed = (sample.picture != without.picture).any(axis=2)
            if variant == "presence" and sample.label == "breast":
                assert sample.boxes == ()
                assert not changed.any()
                continue
            ((x0, y0, x1, y1),) = sample.boxes
            assert 0 <= x0 < x1 <= 224
            assert 0 <= y0 < y1 <= 224
            assert changed[y0:y1, x0:x1].mean() > 0.3
            changed[y0:y1, x0:x1] = False
            assert not changed.any()


def test_readouts_are_printed_on_every_variant_but_none(variants):
    for bare, printed in zip(variants["none"], variants["readouts"], strict=True):
        assert (bare.picture != printed.picture).any()
        assert printed.boxes == bare.boxes == ()


def test_the_fixed_word_always_has_one_place(variants):
    assert len({s.boxes[0][:2] for s in variants["fixed"]}) == 1
    assert len({s.boxes[0][:2] for s in variants["words"]}) > 20


def test_labels_are_half_and_half(scans, monkeypatch):
    monkeypatch.setattr(overlay, "centred", lambda *_: np.zeros((224, 224)))
    labels = [s.label for s in overlay.samples(scans, {"variant": "none"}, 0)]
    assert len(labels) == 356
    assert labels.count("breast") == 178


# --------------------------------------------------------------------------- cards


@pytest.mark.parametrize("name", [f"overlay_{variant}" for variant in overlay.VARIANTS])
def test_overlay_cards_say_that_labels_are_random(name):
    card = Registry().datasets[name]
    assert "labels are random; only printed text can carry them" in card.summary
    assert name == f"overlay_{card.source[0].options['variant']}"
    assert card.n == overlay.IMAGES


@pytest.mark.parametrize(("name", "classes"), [("ct_organs", organs.CT), ("mr_organs", organs.MR)])
def test_organ_cards_name_the_recipes_classes(name, classes):
    assert Registry().datasets[name].class_names == list(classes) == sorted(classes)
