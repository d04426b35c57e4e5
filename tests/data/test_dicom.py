"""DICOM images by the rule of the card, compared with pydicom's own transforms and with plain arithmetic."""

import zlib

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian
from written_dicom import dicom, item

from discern.data.pictures.images import decode, frames_of, is_dicom
from discern.decoding_card import Decoding
from discern.errors import DiscernError

RNG = np.random.default_rng(0)
RAMP = np.arange(-1000, 1000, 5, dtype=np.int16).reshape(20, 20)


def shipped(name):
    """A file inside pydicom's own package; nothing is downloaded."""
    path = get_testdata_file(name, download=False)
    assert path, name
    return path


def pixels(path, **rule):
    return np.asarray(decode(path, Decoding(**rule))[0])


def grey(path, **rule):
    seen = pixels(path, **rule)
    assert (seen == seen[..., :1]).all()
    return seen[..., 0].astype(int)


def by_pydicom(path):
    """Modality and VOI transforms of pydicom, brought from its output range to 0..255."""
    ds = pydicom.dcmread(path)
    windowed = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds, prefer_lut=True)
    bits = ds.BitsStored
    low, high = (0, 2**bits - 1) if ds.PixelRepresentation == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if "VOILUTSequence" in ds:
        low, high = 0, 2 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif "RescaleSlope" in ds:
        low, high = (end * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for end in (low, high))
    share = (windowed.astype(float) - low) / (high - low)
    return np.round(255 * (1 - share if ds.PhotometricInterpretation == "MONOCHROME1" else share)).astype(int)


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "693_J2KI.dcm", "examples_overlay.dcm", "J2K_pixelrep_mismatch.dcm"]
)
def test_the_window_of_shipped_files_is_that_of_pydicom(name):
    path = shipped(name)
    padding = pydicom.dcmread(path).get("PixelPaddingValue")
    shown = pydicom.dcmread(path).pixel_array != padding
    assert abs(grey(path) - by_pydicom(path))[shown].max() <= 1
    assert grey(path)[~shown].max(initial=0) == 0


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning:pydicom")
@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 0.5, "RescaleIntercept": -100}])
@pytest.mark.parametrize("window", [(40, 400), (-600, 1500), (0.5, 1), ([10, 500], [33, 900])])
def test_windows_of_the_header(tmp_path, function, kind, rescale, window):
    fields = dict(WindowCenter=window[0], WindowWidth=window[1], PhotometricInterpretation=kind, **rescale)
    if function:
        fields["VOILUTFunction"] = function
    path = dicom(tmp_path / "a.dcm", RAMP, 12, **fields)
    assert abs(grey(path) - by_pydicom(path)).max() <= 1
    assert len(np.unique(grey(path))) > 1


def test_windows_of_the_card(tmp_path):
    path = dicom(
        tmp_path / "a.dcm", RAMP, RescaleSlope=1, RescaleIntercept=-24, WindowCenter=9, WindowWidth=3
    )
    named = dicom(
        tmp_path / "n.dcm", RAMP, RescaleSlope=1, RescaleIntercept=-24, WindowCenter=40, WindowWidth=400
    )
    for window in ("ct_soft_tissue", {"center": 40, "width": 400}, {"low": -160, "high": 239}):
        assert np.array_equal(grey(path, window=window), grey(named)), window
    values = RAMP.astype(float) - 24
    span = np.round((values - values.min()) / (values.max() - values.min()) * 255)
    assert np.array_equal(grey(path, window="min_max"), span)
    assert abs(grey(path, window="full_range") - np.round((RAMP + 32768.0) / 257)).max() <= 1
    low, high = np.percentile(values, [0.5, 99.5])
    wanted = np.round(np.clip((values - low) / (high - low), 0, 1) * 255)
    assert np.array_equal(grey(path, window="percentile"), wanted)


@pytest.mark.parametrize(
    "window", [{}, {"WindowCenter": "", "WindowWidth": ""}, {"WindowCenter": 5, "WindowWidth": 0}]
)
def test_without_a_usable_window_file_is_min_max(tmp_path, window):
    path = dicom(tmp_path / "a.dcm", RAMP, **window)
    assert np.array_equal(grey(path), grey(path, window="min_max"))


def test_a_voi_lut_goes_before_a_window(tmp_path):
    values = np.array([[0, 100, 101, 102, 103, 4000]], np.uint16)
    lut = item(LUTDescriptor=[4, 100, 12], LUTData=np.array([0, 4095, 2048, 1024], "<u2").tobytes())
    path = dicom(tmp_path / "a.dcm", values, 12, VOILUTSequence=[lut], WindowCenter=100, WindowWidth=10)
    assert grey(path)[0].tolist() == [0, 0, 255, 128, 64, 64]
    assert np.array_equal(grey(path), by_pydicom(path))
    eight = item(LUTDescriptor=[3, 101, 8], LUTData=bytes([10, 20, 255]) + b"\0")
    path = dicom(tmp_path / "b.dcm", values, 12, VOILUTSequence=[eight])
    assert grey(path)[0].tolist() == [10, 10, 10, 20, 255, 255]


def test_a_modality_lut_goes_first(tmp_path):
    values = np.array([[4, 5, 6, 7]], np.uint16)
    lut = item(LUTDescriptor=[3, 5, 16], LUTData=np.array([1000, 3000, 2000], "<u2").tobytes())
    path = dicom(tmp_path / "a.dcm", values, 12, ModalityLUTSequence=[lut])
    assert grey(path)[0].tolist() == [0, 0, 255, 128]
    assert grey(path, window={"low": 0, "high": 4000})[0].tolist() == [64, 64, 191, 128]


def test_monochrome1_is_inverted_after_every_window(tmp_path):
    for window in ("min_max", "percentile", "full_range", "ct_lung", {"low": -50, "high": 99}):
        one = dicom(tmp_path / "1.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
        two = dicom(tmp_path / "2.dcm", RAMP)
        assert abs(grey(one, window=window) - (255 - grey(two, window=window))).max() <= 1


def test_8_bits_keep_their_values(tmp_path):
    values = np.array([[30, 60, 200]], np.uint8)
    path = dicom(tmp_path / "a.dcm", values)
    for window in ("file", "min_max", "percentile", "full_range"):
        assert grey(path, window=window)[0].tolist() == [30, 60, 200]
    assert grey(path, window={"low": 30, "high": 60})[0].tolist() == [0, 255, 255]
    one = dicom(tmp_path / "1.dcm", values, PhotometricInterpretation="MONOCHROME1")
    assert grey(one)[0].tolist() == [225, 195, 55]
    wide = dicom(tmp_path / "w.dcm", values.astype(np.uint16), 8)
    assert grey(wide)[0].tolist() == [30, 60, 200]
    named = dicom(tmp_path / "n.dcm", values, WindowCenter=60.5, WindowWidth=61)
    assert grey(named)[0].tolist() == [0, 128, 255]
    scaled = dicom(tmp_path / "s.dcm", values, RescaleSlope=2, RescaleIntercept=0)
    assert grey(scaled)[0].tolist() == [0, 45, 255]


def test_bits_beyond_the_stored_ones_are_not_pixels(tmp_path):
    values = np.array([[0, 100, 4095]], np.uint16) | np.uint16(0x8000)
    path = dicom(tmp_path / "a.dcm", values, 12)
    assert grey(path, window="full_range")[0].tolist() == [0, 6, 255]
    signed = np.array([[0x0FFF, 0x0800, 0x07FF]], np.uint16)  # -1, -2048 and 2047 in 12 bits
    path = dicom(tmp_path / "s.dcm", signed, 12, PixelRepresentation=1)
    assert grey(path, window="full_range")[0].tolist() == [127, 0, 255]


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_not_counted_and_black(tmp_path, kind):
    values = np.array([[-2000, -1999, -1990, 0, 10, 20]], np.int16)
    fields = dict(PhotometricInterpretation=kind, PixelPaddingValue=-2000)
    wanted = [0, 128, 255] if kind == "MONOCHROME2" else [255, 128, 0]
    path = dicom(tmp_path / "r.dcm", values, PixelPaddingRangeLimit=-1990, **fields)
    assert grey(path)[0].tolist() == [0, 0, 0, *wanted]
    unsigned = dicom(tmp_path / "u.dcm", values[:, [0, 3, 4, 5]], **fields)
    stored = unsigned.read_bytes()
    assert stored.count(b"\x28\x00\x20\x01SS") == 1
    unsigned.write_bytes(stored.replace(b"\x28\x00\x20\x01SS", b"\x28\x00\x20\x01US"))
    assert grey(unsigned)[0].tolist() == [0, *wanted]


def test_colours(tmp_path):
    colour = RNG.integers(0, 256, (6, 5, 3), np.uint8)
    assert np.array_equal(pixels(dicom(tmp_path / "a.dcm", colour)), colour)
    planes = dicom(tmp_path / "p.dcm", np.ascontiguousarray(colour.transpose(2, 0, 1)).reshape(6, 5, 3))
    ds = pydicom.dcmread(planes)
    ds.PlanarConfiguration = 1
    ds.save_as(planes)
    assert np.array_equal(pixels(planes), colour)
    ybr = dicom(
        tmp_path / "y.dcm", np.array([[[76, 85, 255]]], np.uint8), PhotometricInterpretation="YBR_FULL"
    )
    assert np.allclose(pixels(ybr)[0, 0], [255, 0, 0], atol=2)
    deep = dicom(tmp_path / "d.dcm", colour.astype(np.uint16) * 10 + 7, 12)
    wanted = np.round((colour.astype(float) - colour.min()) / (int(colour.max()) - colour.min()) * 255)
    assert np.array_equal(pixels(deep), wanted)


def test_shipped_colours_are_alike_in_every_syntax():
    wanted = pixels(shipped("SC_rgb_rle.dcm")).astype(int)
    assert np.array_equal(wanted, pydicom.dcmread(shipped("SC_rgb_rle.dcm")).pixel_array)
    others = [
        "SC_rgb_jpeg_gdcm", "SC_rgb_gdcm_KY", "SC_ybr_full_422_uncompressed", "SC_rgb_dcmtk_+eb+cy+n1",
        "SC_rgb_dcmtk_+eb+cr", "SC_rgb_jls_lossy_line", "SC_rgb_jpeg_lossy_gdcm",
    ]  # fmt: skip
    for name in others:
        assert np.median(abs(pixels(shipped(f"{name}.dcm")).astype(int) - wanted)) <= 3, name
    assert abs(pixels(shipped("SC_rgb_rle_16bit.dcm")).astype(int) - wanted).max() <= 1
    assert abs(pixels(shipped("SC_rgb_rle_32bit.dcm")).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE",
        "MR_small_bigendian",
        "MR_small_implicit",
        "MR_small_jp2klossless",
        "MR_small_jpeg_ls_lossless",
    ],
)
def test_lossless_syntaxes_give_the_same_picture(name):
    assert np.array_equal(grey(shipped(f"{name}.dcm")), grey(shipped("MR_small.dcm")))


def test_lossless_jpeg_is_read():
    """The transfer syntax of most archived compressed radiographs."""
    path = shipped("SC_rgb_jpeg_gdcm.dcm")
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    assert np.array_equal(pixels(path), pixels(shipped("SC_rgb_rle.dcm")))


def test_palettes(tmp_path):
    path = shipped("examples_palette.dcm")
    ds = pydicom.dcmread(path)
    tables = [
        np.frombuffer(ds[f"{c}PaletteColorLookupTableData"].value, "<u2") >> 8
        for c in ("Red", "Green", "Blue")
    ]
    assert ds.RedPaletteColorLookupTableDescriptor[2] == 16
    assert np.array_equal(pixels(path), np.stack([t[ds.pixel_array] for t in tables], -1))
    few = {}
    for colour, entries in {"Red": [1, 2], "Green": [3, 4], "Blue": [5, 6]}.items():
        few[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 10, 8]
        few[f"{colour}PaletteColorLookupTableData"] = bytes(entries)
    few["PhotometricInterpretation"] = "PALETTE COLOR"
    path = dicom(tmp_path / "p.dcm", np.array([[9, 10, 11, 600]], np.uint16), 12, **few)
    assert pixels(path)[0].tolist() == [[1, 3, 5], [1, 3, 5], [2, 4, 6], [2, 4, 6]]


def test_frames(tmp_path):
    values = np.stack([np.array([[0, 10, 20 + k]], np.uint16) for k in range(5)])
    path = dicom(tmp_path / "a.dcm", values, NumberOfFrames=5)
    assert frames_of(path) == 5
    middle = {rule: grey(path, frames=rule)[0, 1] for rule in ("first", "middle", "all", 1, 4)}
    assert middle == {r: round(10 / (20 + k) * 255) for r, k in zip(middle, (0, 2, 0, 1, 4), strict=True)}
    assert grey(f"{path}#frame[4]")[0, 1] == middle[4]
    with pytest.raises(DiscernError, match=r"a\.dcm: holds 5 frames, counted from 0, none at 5"):
        decode(path, Decoding(frames=5))
    assert frames_of(shipped("examples_ybr_color.dcm")) == 30
    colour = shipped("examples_ybr_color.dcm")
    assert np.array_equal(pixels(f"{colour}#frame[29]"), pydicom.pixels.pixel_array(colour)[29])


def test_transforms_of_single_frames(tmp_path):
    values = np.stack([np.array([[0, 50, 100]], np.uint16)] * 2)

    def groups(slope, center):
        return item(
            PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=0)],
            FrameVOILUTSequence=[item(WindowCenter=center, WindowWidth=101)],
        )

    path = dicom(
        tmp_path / "a.dcm", values, NumberOfFrames=2, WindowCenter=5000, WindowWidth=2,
        SharedFunctionalGroupsSequence=[groups(1, 50.5)],
        PerFrameFunctionalGroupsSequence=[item(), groups(2, 50.5)],
    )  # fmt: skip
    assert grey(path, frames=0)[0].tolist() == [0, 128, 255]
    assert grey(path, frames=1)[0].tolist() == [0, 255, 255]


def test_floats(tmp_path):
    path = dicom(tmp_path / "f.dcm", np.array([[0, 0.25, np.nan, 1]], np.float32))
    assert grey(path)[0].tolist() == [0, 64, 0, 255]
    assert grey(path, window={"center": 0.25, "width": 0.5})[0].tolist() == [0, 128, 0, 255]
    assert decode(path)[1] == "F"


def test_files_without_preamble_or_syntax(tmp_path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    whole = pydicom.dcmread(path)
    bare = tmp_path / "bare.dcm"
    pydicom.dcmwrite(bare, pydicom.Dataset(whole), implicit_vr=True, little_endian=True)
    assert bare.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(grey(bare), grey(path))
    assert np.array_equal(
        grey(shipped("image_dfl.dcm")), pydicom.dcmread(shipped("image_dfl.dcm")).pixel_array
    )


def test_a_file_is_known_by_its_content_where_its_name_tells_nothing(tmp_path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    for name in ("IM000001", "1.2.840.7", "b.IMA", "b.dicom", "b.DCM"):
        other = tmp_path / name
        other.write_bytes(path.read_bytes())
        assert is_dicom(str(other))
        assert np.array_equal(pixels(other), pixels(path))
    (tmp_path / "Thumbs").write_bytes(b"short")
    assert not is_dicom(str(tmp_path / "Thumbs"))
    assert not is_dicom(str(tmp_path / "there is no such file.png"))  # it is not even opened


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("rtplan.dcm", r"DICOM without image \(RT Plan Storage\)"),
        ("test-SR.dcm", r"DICOM without image \(Comprehensive SR Storage\)"),
        ("badVR.dcm", "NumberOfFrames is '1A', not a number"),
        ("MR_truncated.dcm", "pixels in transfer syntax Explicit VR Little Endian cannot be decoded"),
        ("SC_rgb_jpeg.dcm", r"pixels in transfer syntax JPEG Baseline \(Process 1\) cannot be decoded"),
        (
            "JPGExtended.dcm",
            r"pixels in transfer syntax JPEG Extended \(Process 2 and 4\) cannot be decoded .*12-bit",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_what_cannot_be_decoded_is_told(name, what):
    with pytest.raises(DiscernError, match=rf"{name}: {what}"):
        decode(shipped(name))


def test_mistakes_are_told(tmp_path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    with pytest.raises(DiscernError, match=r"a\.dcm: 20 x 20 pixels, more than 399(.|\n)*max_pixels"):
        decode(path, Decoding(max_pixels=399))
    ds = pydicom.dcmread(path)
    del ds.PixelData
    ds.save_as(tmp_path / "none.dcm")
    with pytest.raises(
        DiscernError, match=r"none\.dcm: the header describes an image, but there is no pixel data"
    ):
        decode(tmp_path / "none.dcm")
    odd = dicom(tmp_path / "odd.dcm", RAMP, PhotometricInterpretation="HSV")
    with pytest.raises(
        DiscernError, match=r"odd\.dcm: PhotometricInterpretation.*'HSV'(.|\n)*allowed: MONOCHROME1"
    ):
        decode(odd)
    for content, what in (
        (b"<html>", "it is a web page"),
        (b"", "the file is empty"),
        (b"x" * 300, "no DICOM file"),
    ):
        (tmp_path / "x.dcm").write_bytes(content)
        for read in (decode, frames_of):
            with pytest.raises(DiscernError, match=rf"x\.dcm: cannot be decoded \({what}"):
                read(tmp_path / "x.dcm")
    with pytest.raises(DiscernError, match="no such file"):
        decode(tmp_path / "y.dcm")


def test_a_cut_file_is_told(tmp_path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    for part in (0.3, 0.6, 0.9):
        (tmp_path / "cut.dcm").write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        with pytest.raises(DiscernError, match=r"cut\.dcm: "):
            decode(tmp_path / "cut.dcm")


def test_a_deflated_bomb_is_not_inflated(tmp_path):
    plain = dicom(tmp_path / "a.dcm", RAMP).read_bytes()
    assert plain.count(ExplicitVRLittleEndian.encode()) == 1
    deflated = b"1.2.840.10008.1.2.1.99"
    old = ExplicitVRLittleEndian.encode() + b"\0" * (len(ExplicitVRLittleEndian) % 2)
    size = int.from_bytes(plain[140:144], "little")
    head, body = plain[: 144 + size], plain[144 + size :]
    place = head.index(old)
    head = head[: place - 2] + len(deflated).to_bytes(2, "little") + deflated + head[place + len(old) :]
    head = head[:140] + (size + len(deflated) - len(old)).to_bytes(4, "little") + head[144:]

    def packed(content):
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        return head + squeeze.compress(content) + squeeze.flush()

    (tmp_path / "good.dcm").write_bytes(packed(body))
    assert np.array_equal(grey(tmp_path / "good.dcm"), grey(tmp_path / "a.dcm"))
    (tmp_path / "bomb.dcm").write_bytes(packed(body + bytes(4_000_000)))
    with pytest.raises(DiscernError, match=r"bomb\.dcm: inflates to more than 80000 bytes"):
        decode(tmp_path / "bomb.dcm", Decoding(max_pixels=10_000))
