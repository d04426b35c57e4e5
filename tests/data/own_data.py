"""Tiny data sets of a user's own, one for each kind of adapter, as the README's cards read them."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import yaml
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("benign", "malignant")
N = 12  # images of each class

MODULE = """
def images(root):
    for file in sorted(root.glob("*/*.png")):
        yield {"path": file, "label": file.name.split("_")[0], "group": file.parent.name}
"""


def picture(label, number, seed=0):
    """Stripes, 32 pixels a side, uint8: lying in class 0, standing in class 1, with noise."""
    random = np.random.default_rng([seed, label, number])
    stripes = np.arange(32) // 4 % 2 * 120 + 60
    clean = np.tile(stripes, (32, 1)) if label else np.tile(stripes[:, None], (1, 32))
    return np.clip(clean + random.normal(0, 20, (32, 32)), 0, 255).astype(np.uint8)


def every():
    """Label and number of all images."""
    return [(label, number) for label in range(len(CLASSES)) for number in range(N)]


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def my_folders(root):
    """A folder per class, and two masks for one picture."""
    for label, number in every():
        save(picture(label, number), root / CLASSES[label] / f"{CLASSES[label]} ({number + 1}).png")
    for name in ("benign (1)_mask.png", "benign (1)_mask_1.png"):
        mask = np.zeros((32, 32), np.uint8)
        mask[:8, : 8 if "_1" in name else 16] = 255
        save(mask, root / "benign" / name)


def my_table(root):
    """A sheet in the spelling of a spreadsheet on Windows: mark, back-slashes, other suffix case."""
    rows = []
    for label, number in every():
        path = f"pictures/p{number // 2}/{CLASSES[label]}_{number}.PNG"
        save(picture(label, number), root / path)
        shown = path.replace("/", "\\").replace(".PNG", ".png")
        rows.append({"path": shown, "diagnosis": CLASSES[label], "patient": f"p{number // 2}"})
    with (root / "labels.csv").open("w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def my_arrays(root):
    """One archive; labels are numbers."""
    root.mkdir(parents=True, exist_ok=True)
    images = np.stack([picture(label, number) for label, number in every()])
    np.savez(root / "my_arrays.npz", images=images, labels=np.array([[label] for label, _ in every()]))


def my_scans(root):
    """DICOM files without suffix as a scanner's export names them, with an index beside them."""
    for label, number in every():
        file = root / f"scans/{number // 2:03d}/IM{label}{number:04d}"
        write_dicom(file, picture(label, number), BodyPartExamined=("HEAD", "CHEST")[label],
                    PatientID=f"P{number // 2}")  # fmt: skip
    (root / "scans" / "readme.txt").write_text("exported")


def write_dicom(file, array, **fields):
    """One CT slice; values are Hounsfield units by a slope of 1 and an intercept of -1024."""
    file.parent.mkdir(parents=True, exist_ok=True)
    stored = pydicom.Dataset()
    stored.file_meta = FileMetaDataset()
    stored.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stored.SOPClassUID = stored.file_meta.MediaStorageSOPClassUID = CTImageStorage
    stored.SOPInstanceUID = stored.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[str(file)]
    )
    stored.SeriesInstanceUID = generate_uid(entropy_srcs=[str(file.parent)])
    stored.Rows, stored.Columns = array.shape
    stored.SamplesPerPixel, stored.PhotometricInterpretation = 1, "MONOCHROME2"
    stored.BitsAllocated = stored.BitsStored = 16
    stored.HighBit, stored.PixelRepresentation = 15, 0
    stored.RescaleSlope, stored.RescaleIntercept = 1, -1024
    stored.PixelData = (array.astype(np.uint16) * 8).tobytes()
    for keyword, value in fields.items():
        setattr(stored, keyword, value)
    pydicom.dcmwrite(file, stored, enforce_file_format=True)


def my_hub(root):
    """Two files with pictures inside; their metadata name the classes in an order of their own."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["malignant", "benign"], "_type": "ClassLabel"},
    }
    about = {b"huggingface": json.dumps({"info": {"features": features}})}
    (root / "data").mkdir(parents=True, exist_ok=True)
    for part in range(2):
        mine = [(label, number) for label, number in every() if number % 2 == part]
        images = [{"bytes": png(picture(label, n)), "path": f"{CLASSES[label]}_{n}.png"} for label, n in mine]
        table = pa.table({"image": images, "label": [1 - label for label, _ in mine]})
        pq.write_table(table.replace_schema_metadata(about), root / f"data/train-{part:05d}-of-00002.parquet")


def my_reader(root):
    """Class in the file's name, group in the folder's; a function reads it."""
    for label, number in every():
        save(picture(label, number), root / f"patient_{number // 2}" / f"{CLASSES[label]}_{number}.png")


def cards():
    """The cards of the README by their names."""
    section = (ROOT / "README.md").read_text().split("## Your own data in five lines")[1].split("\n## ")[0]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)[1]
    return {card["name"]: card for card in yaml.safe_load_all(block)}


WRITERS = {w.__name__: w for w in (my_folders, my_table, my_arrays, my_scans, my_hub, my_reader)}


def write_all(data_root, module):
    """Every data set in its folder below ``data_root``, and the module of the function."""
    for name, writer in WRITERS.items():
        writer(Path(data_root) / name)
    Path(module).write_text(MODULE)
