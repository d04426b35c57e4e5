"""DICOM files of a few pixels, written from values and header fields."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

UID = generate_uid(entropy_srcs=["discern"])


def dicom(path, values, bits=None, syntax=ExplicitVRLittleEndian, **fields):
    """Write (H, W), (H, W, 3) or, with NumberOfFrames, (N, H, W) values; ``fields``: keywords and values."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID
    colours = values.shape[-1] if values.ndim >= 3 and "NumberOfFrames" not in fields else 1
    ds.SamplesPerPixel = colours
    ds.PhotometricInterpretation = "MONOCHROME2" if colours == 1 else "RGB"
    if colours > 1:
        ds.PlanarConfiguration = 0
    height, width = values.shape[1:3] if "NumberOfFrames" in fields else values.shape[:2]
    ds.Rows, ds.Columns = height, width
    ds.BitsAllocated = values.dtype.itemsize * 8
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in fields.items():
        setattr(ds, keyword, value)
    if values.dtype.kind == "f":
        ds.FloatPixelData = values.astype("<f4").tobytes()
        del ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    else:
        pixels = np.ascontiguousarray(values).tobytes()
        ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
        ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"
    ds.save_as(path, enforce_file_format=True)
    return path


def item(**fields):
    """One item of a sequence."""
    ds = Dataset()
    for keyword, value in fields.items():
        setattr(ds, keyword, value)
    return ds
