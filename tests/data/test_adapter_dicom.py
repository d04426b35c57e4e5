"""DICOM folders as scanners, archives and research repositories export them."""

import logging

import numpy as np
import pytest
from adapter_cards import card, labels, rows
from own_data import write_dicom
from pydicom import dcmread, dcmwrite
from pydicom.uid import MediaStorageDirectoryStorage

from discern.data.adapters import scan
from discern.errors import DiscernError

HEADER = card("dicom_folder", ("HEAD", "CHEST"), label="BodyPartExamined")
PIXELS = np.zeros((4, 4), np.uint8)


def write(root, name, part="HEAD", patient="P1", **fields):
    fields = {"BodyPartExamined": part, "PatientID": patient} | fields
    write_dicom(root / name, PIXELS, **{k: v for k, v in fields.items() if v is not None})


def test_label_patient_and_series_come_from_the_header(tmp_path):
    write(tmp_path, "a/b/1.2.840.113619.2.55", "HEAD", "P1")
    write(tmp_path, "a/b/IM0001.dcm", "CHEST", "P2")
    write(tmp_path, "a/c/IM0001.DCM", "CHEST", "P2")
    found = rows(HEADER, tmp_path)
    assert {name: (r.label_name, r.group) for name, r in found.items()} == {
        "a/b/1.2.840.113619.2.55": ("HEAD", "P1"),  # the end of a UID is no suffix
        "a/b/IM0001": ("CHEST", "P2"),
        "a/c/IM0001": ("CHEST", "P2"),
    }
    volumes = [r.volume for r in found.values()]
    assert volumes[0] == volumes[1] != volumes[2]


def without_picture(file, **changes):
    """The same file as a report, a plan or an index has it."""
    stored = dcmread(file)
    del stored.PixelData, stored.Rows
    for keyword, value in changes.items():
        setattr(stored, keyword, value)
    dcmwrite(file, stored)


def test_what_is_no_image_is_passed_over_and_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, "discern")
    for name in ("1", "report", "index", "DICOMDIR"):
        write(tmp_path, f"a/{name}")
    without_picture(tmp_path / "a/report")
    without_picture(tmp_path / "a/index", SOPClassUID=MediaStorageDirectoryStorage, Rows=1)
    (tmp_path / "a/readme.txt").write_text("exported")
    (tmp_path / "a/empty").write_bytes(b"")
    assert list(rows(HEADER, tmp_path)) == ["a/1"]
    assert "not read: 4 without suffix, 1 .txt" in caplog.text


def test_labels_by_folder_or_name(tmp_path):
    write(tmp_path, "HEAD/1", part=None)
    write(tmp_path, "CHEST/study/2", part=None)
    folders = card("dicom_folder", ("HEAD", "CHEST"))
    assert labels(folders, tmp_path) == {"HEAD/1": "HEAD", "CHEST/study/2": "CHEST"}
    write(tmp_path / "names", "h_77.dcm", part=None)
    pattern = r"^(?P<label>h)_(?P<group>\d+)"
    (row,) = scan(
        card("dicom_folder", ("HEAD", "CHEST"), pattern=pattern, labels={"h": "HEAD"}), tmp_path / "names"
    ).rows
    assert (row.label_name, row.group) == ("HEAD", "77")  # the name is stronger than PatientID


def test_header_fields_that_are_missing_are_listed(tmp_path):
    write(tmp_path, "1", part=None)
    write(tmp_path, "2", part="", patient=None)
    write(tmp_path, "3")
    with pytest.raises(DiscernError) as error:
        scan(HEADER, tmp_path)
    message = str(error.value)
    assert (
        "3 header fields that the card reads are not there:\n  1: BodyPartExamined (Body Part Examined)"
        in message
    )
    assert "2: BodyPartExamined" in message
    assert "2: PatientID (Patient ID) has no value" in message
    chosen = card(
        "dicom_folder", ("HEAD", "CHEST"), label="BodyPartExamined", labels={"": None}, group="StudyID"
    )
    with pytest.raises(DiscernError, match=r"StudyID \(Study ID\) has no value"):
        scan(chosen, tmp_path)


def test_a_patient_that_no_file_has_is_unknown(tmp_path, caplog):
    write(tmp_path, "1", patient=None)
    write(tmp_path, "2", patient="")
    assert {r.group for r in scan(HEADER, tmp_path).rows} == {None}
    assert "no file has a PatientID, so each image's group is unknown" in caplog.text
    none = card("dicom_folder", ("HEAD", "CHEST"), label="BodyPartExamined", group="", volume="")
    assert {(r.group, r.volume) for r in scan(none, tmp_path).rows} == {(None, None)}


def test_a_damaged_file_is_left_to_the_decoder_which_names_it(tmp_path):
    write(tmp_path, "HEAD/1.dcm")
    (tmp_path / "HEAD/2.dcm").write_bytes(b"")
    (tmp_path / "HEAD/3.dcm").write_text("no DICOM file")
    (tmp_path / "HEAD/4.dcm").write_bytes((tmp_path / "HEAD/1.dcm").read_bytes()[:200])
    assert len(rows(card("dicom_folder", ("HEAD", "CHEST")), tmp_path)) == 4
    with pytest.raises(DiscernError, match=r"HEAD/2\.dcm: BodyPartExamined .* cannot be read"):
        scan(HEADER, tmp_path)


def test_a_keyword_that_does_not_exist(tmp_path):
    with pytest.raises(DiscernError, match="'BodyPart' is no DICOM keyword; did you mean"):
        scan(card("dicom_folder", label="BodyPart"), tmp_path)


def test_nothing_there(tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(DiscernError, match=r"no DICOM images here; found 1 other files \(\.png\)"):
        scan(HEADER, tmp_path)
