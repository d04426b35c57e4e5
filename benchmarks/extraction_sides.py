"""One side of a comparison of extraction, in its own environment: ``extraction_sides.py SIDE MODEL FOLDER``.

Run by its path, so that a peer's environment needs nothing of ours. Reads lines from standard input; for
each it extracts the features of all pictures of FOLDER/images and prints wall and CPU seconds as JSON,
without imports and the building of the network. The features go to FOLDER/features_SIDE.npy. All sides
compute with the parameters in FOLDER/MODEL.pt, which the side `discern` writes, and as many threads as
OMP_NUM_THREADS says.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock

BATCH = 32
#: Model -> the library that builds it, its name there, and thingsvision's name of the feature's module.
KNOWN = {
    "mobilenetv3-small": ("torchvision", "mobilenet_v3_small", "avgpool"),
    "resnet50": ("torchvision", "resnet50", "avgpool"),
    "ViT-B/32": ("open_clip", "ViT-B-32", ""),
}
THREADS = int(os.environ["OMP_NUM_THREADS"])

warnings.filterwarnings("ignore")


def weights(folder: Path, model: str) -> Path:
    """Where the parameters lie that all sides share."""
    return folder / f"{model.replace('/', '_')}.pt"


def discern(model: str, folder: Path) -> Callable[[], object]:
    """Ours, file to file."""
    import logging

    import torch

    from benchmarks.extraction_parts import MODELS
    from discern.contracts import FEATURES, feature_matrix, read_table
    from discern.encoders.base import load_encoder
    from discern.features import extract

    logging.disable()
    spec = MODELS[model]
    encoder = load_encoder(spec, {})
    torch.save(encoder.module.state_dict(), weights(folder, model))
    # Networks are built before the clock starts, on every side.
    extract.load_encoder = lambda *_: encoder

    def run() -> object:
        extract.extract_features(
            spec, folder / "manifest.parquet", folder / "weights.json", folder / "out.parquet", BATCH
        )
        return feature_matrix(read_table(FEATURES, folder / "out.parquet")[0])

    return run


def thingsvision(model: str, folder: Path) -> Callable[[], object]:
    """Its extractor, data set and loader, as in its documentation."""
    import numpy as np
    import torch

    np.AxisError = np.exceptions.AxisError  # as it was called in the releases of NumPy that it pins
    # Only its TensorFlow models need TensorFlow, but it is imported for all.
    keras = [f"tensorflow.keras{part}" for part in ("", ".applications", ".layers", ".models")]
    for name in ("tensorflow", *keras):
        sys.modules.setdefault(name, MagicMock(__spec__=ModuleSpec(name, None)))
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset

    library, name, module = KNOWN[model]
    extractor = get_extractor(model_name=name, source=library, device="cpu", pretrained=False)
    extractor.model.load_state_dict(torch.load(weights(folder, model)), strict=False)

    def run() -> object:
        files = ImageDataset(
            root=str(folder / "images"), out_path=tempfile.mkdtemp(), backend=extractor.get_backend(),
            transforms=extractor.get_transformations(),
        )  # fmt: skip
        batches = DataLoader(dataset=files, batch_size=BATCH, backend=extractor.get_backend())
        return extractor.extract_features(
            batches=batches, module_name=module, flatten_acts=True, output_type="ndarray"
        )

    return run


def _open_clip(model: str, folder: Path):
    import open_clip
    import torch

    network, _, transform = open_clip.create_model_and_transforms(KNOWN[model][1], pretrained=None)
    network.visual.load_state_dict(torch.load(weights(folder, model)))
    return network.eval(), transform


def clip_benchmark(model: str, folder: Path) -> Callable[[], object]:
    """The loop of its linear_probe.evaluate, which itself asserts CUDA; a loader process for each thread."""
    import torch
    from clip_benchmark.metrics.linear_probe import Featurizer
    from torchvision.datasets import ImageFolder

    network, transform = _open_clip(model, folder)
    featurizer = Featurizer(network, normalize=False)
    files = ImageFolder(str(folder), transform=transform)

    def run() -> object:
        loader = torch.utils.data.DataLoader(files, batch_size=BATCH, num_workers=THREADS)
        with torch.no_grad():
            return torch.cat([featurizer(images).cpu() for images, _ in loader]).numpy()

    return run


def dinotool(model: str, folder: Path) -> Callable[[], object]:
    """Its data set, loader and extractor, as its command does for a folder of images."""
    import numpy as np
    import torch
    from dinotool import data
    from dinotool.model import OpenCLIPFeatureExtractor

    network, transform = _open_clip(model, folder)
    network.patch_size = network.visual.patch_size[0]
    factory = data.TransformFactory(model_name="hf-hub:timm/none", patch_size=network.patch_size)
    factory.transform = data.OpenCLIPTransform(
        transform=transform, resize_size=(224, 224), feature_map_size=(7, 7)
    )
    source = data.ImageDirectory(str(folder / "images"))
    files = data.ImageDirectoryDataset(source, transform_factory=factory, resize_size=(224, 224))
    extractor = OpenCLIPFeatureExtractor(network, device="cpu")

    def run() -> object:
        loader = torch.utils.data.DataLoader(files, batch_size=BATCH, shuffle=False)
        parts = [extractor(b["img"], return_clstoken=True, normalized=False).cpu().numpy() for b in loader]
        return np.concatenate(parts)[np.argsort(source.image_names)]

    return run


SIDES = {"discern": discern, "thingsvision": thingsvision, "clip-benchmark": clip_benchmark,
         "dinotool": dinotool}  # fmt: skip


def cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in every)


def main() -> None:
    """Build, say so, and extract once for every line that is read."""
    side, model, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    answer, sys.stdout = sys.stdout, sys.stderr
    import numpy as np
    import torch

    torch.set_num_threads(THREADS)
    run = SIDES[side](model, folder)
    print("ready", file=answer, flush=True)
    for _ in sys.stdin:
        wall, busy = time.perf_counter(), cpu()
        features = run()
        print(json.dumps([time.perf_counter() - wall, cpu() - busy]), file=answer, flush=True)
        np.save(folder / f"features_{side}.npy", np.asarray(features))


if __name__ == "__main__":
    main()
