"""A finished study of made-up files that keep every contract, with known scores planted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from discern import contracts, paths
from discern.config import Study
from discern.registry import Registry

PACKAGES = {"timm": "1.0.31", "torch": "2.13.0"}


class Project:
    """Writes cards and result files under ``root``; every writer takes the values to plant."""

    def __init__(self, root: Path):
        self.root = root
        (root / "envs").mkdir(parents=True)
        for folder in ("models", "datasets", "reference"):
            (root / "registry" / folder).mkdir(parents=True)
        for env in ("data", "analysis", "torch"):
            self.write(f"envs/{env}.yaml", "dependencies:\n  - python=3.11\n  - pip:\n      - a==1\n")

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def model(self, name, title=None, group="non_vlm", **fields):
        card = {
            "name": name, "title": title or name, "group": group, "weights": {"kind": "none"},
            "loader": {"route": "pixels"}, "preprocess": {"resize": "squash", "size": 32},
            "features": [{"name": "pooled", "d": 8}], "environment": "torch", "licence": "MIT", **fields,
        }  # fmt: skip
        self.write(f"registry/models/{name}.yaml", yaml.safe_dump(card))

    def dataset(self, name, title=None, classes=("a", "b"), modality="CT", **fields):
        card = {
            "name": name, "title": title or name, "modality": modality, "licence": "CC0",
            "source": {"kind": "manual", "page": "a page", "place": "files"},
            "adapter": {"kind": "csv"}, "classes": [{"name": c} for c in classes], **fields,
        }  # fmt: skip
        self.write(f"registry/datasets/{name}.yaml", yaml.safe_dump(card))

    @property
    def registry(self) -> Registry:
        return Registry([self.root / "registry"])

    def manifest(self, dataset, labels):
        card = self.registry.datasets[dataset]
        n = len(labels)
        columns = {
            "image_id": [f"i{i:05d}" for i in range(n)], "path": [f"{i}.png" for i in range(n)],
            "sha256": ["0" * 64] * n, "label": labels, "label_name": [card.class_names[i] for i in labels],
            "group": [f"p{i // 4}" for i in range(n)] if card.group_key else [None] * n,
            "volume": [None] * n, "official_split": [None] * n, "width": [32] * n, "height": [32] * n,
            "mode": ["L"] * n, "cluster": [None] * n, "mask_path": [None] * n, "boxes": [None] * n,
        }  # fmt: skip
        about = {"dataset": dataset, "version": 1, "root": "data", "made": "made", "decoding": {},
                 "classes": card.class_names, "dropped": [], "modality": card.modality,
                 "title": card.title}  # fmt: skip
        contracts.write_table(
            contracts.MANIFEST, self.root / paths.MANIFEST.format(dataset=dataset), columns, about
        )
        self.audit(dataset, n=n, crossing_labels=1,
                   duplicates=[{"sha256": "0", "image_ids": ["i00000", "i00001"]}])  # fmt: skip

    def audit(self, dataset, **content):
        audit = {"dataset": dataset, "n": 0, "corrupt": [], "duplicates": [], "crossing_labels": 0}
        self.write(paths.AUDIT.format(dataset=dataset), json.dumps(audit | content))

    def splits(self, study, dataset, protocol="image", **about):
        """A split of no images with metadata."""
        file = self.root / paths.SPLITS.format(study=study, dataset=dataset, protocol=protocol)
        columns = {"image_id": [], "role": [], "fold": []}
        contracts.write_table(contracts.SPLITS, file, columns, {"protocol": protocol, **about})

    def gaps(self, study, rows):
        """``rows``: (data set, model) -> (gap, low, high), by both metrics, of 22 and 4 groups."""
        names = list(contracts.GAPS.columns)
        content = [
            (d, metric, m, 0.5 + gap, 0.5, gap, low, high, 40, 30, 22, 4)
            for metric in ("accuracy", "macro_f1")
            for (d, m), (gap, low, high) in rows.items()
        ]
        columns = dict(zip(names, map(list, zip(*content, strict=True)), strict=True))
        contracts.write_table(contracts.GAPS, self.root / paths.GAPS.format(study=study), columns, {})

    def neighbours(self, study, dataset, models, pairs=(), **changes):
        """``pairs``: (first id, second id, straddles)."""
        cosine = {q: float(q) for q in ("0.05", "0.25", "0.5", "0.75", "0.95")}
        found = {
            "dataset": dataset, "protocol": "image", "rule": "a rule", "close": 0.1, "n": 40, "n_test": 8,
            "chance": {"same_label": 0.5, "same_group": 0.05}, "n_pairs": len(pairs),
            "n_straddling": sum(p[2] for p in pairs), "n_crossing": 0,
            "models": [{"model": m, "d": 8, "same_label": 0.9, "same_group": 0.61, "cluster_mate": 0.25,
                        "cosine": cosine, "distance": 0.1} for m in models],
            "pairs": [{"image_ids": [a, b], "labels": ["a", "a"], "groups": [None, None], "same_label": True,
                       "same_group": None, "straddles": s, "models": 2, "cosine": 0.9999}
                      for a, b, s in pairs],
        }  # fmt: skip
        self.write(paths.NEIGHBOURS.format(study=study, dataset=dataset), json.dumps(found | changes))

    def pictures(self, n, folder="data"):
        """The pictures of a manifest of n images, each of a grey of its own."""
        (self.root / folder).mkdir(exist_ok=True)
        for i in range(n):
            Image.new("L", (64, 32), 5 * i).save(self.root / folder / f"{i}.png")

    def features(self, dataset, model, n=4, **changes):
        table = contracts.feature_table([f"i{i:05d}" for i in range(n)], np.ones((n, 8)))
        about = {"model": model, "dataset": dataset, "d": 8, "feature": "pooled", "device": "cpu",
                 "preprocess": "RGB, squash to 32 x 32", "weights_digest": "abc", "versions": PACKAGES,
                 "dtype": "float32", "images_per_second": 42.0}  # fmt: skip
        file = self.root / paths.FEATURES.format(dataset=dataset, model=model)
        contracts.write_table(contracts.FEATURES, file, table, about | changes)

    def scores(self, study, dataset, model, accuracy, macro_f1=None, protocol="image", converged=True):
        k, macro_f1 = len(accuracy), accuracy if macro_f1 is None else macro_f1
        trial = {"t": 1.0, "C": 0.1, "macro_f1": 0.5, "accuracy": 0.5, "relative_gap": 1e-7,
                 "n_iter": 3, "converged": True, "seconds": 0.1}  # fmt: skip
        columns = {
            "fold": list(range(k)), "estimator": ["squared_hinge_ovr"] * k, "t": [10.0] * k, "C": [0.1] * k,
            "n_train": [60] * k, "n_validation": [20] * k, "n_test": [20] * k, "d": [8] * k,
            "accuracy": accuracy, "macro_f1": macro_f1, "balanced_accuracy": accuracy,
            "auroc": [None] * k, "positive_f1": [None] * k, "class_f1": [[0.5, 0.5]] * k,
            "relative_gap": [1e-7] * k, "converged": [True] * (k - 1) + [converged],
            "validation": [[trial]] * k,
        }  # fmt: skip
        where = {"study": study, "dataset": dataset, "model": model, "protocol": protocol}
        contracts.write_table(contracts.SCORES, self.root / paths.SCORES.format(**where), columns, {})

    def umap(self, study, dataset, model, labels, settings=((15, 0.1), (50, 0.5)), seed=0):
        random, n, names = np.random.default_rng(seed), len(labels), []
        xs, ks, ds = [], [], []
        centres = random.normal(size=(max(labels) + 1, 2)) * 6
        for k, d in settings:
            xs.append(centres[labels] + random.normal(size=(n, 2)) * (0.4 + d))
            names += [f"i{i:05d}" for i in range(n)]
            ks += [k] * n
            ds += [d] * n
        xy = np.concatenate(xs).astype("float32")
        columns = {"image_id": names, "n_neighbors": ks, "min_dist": ds, "x": xy[:, 0], "y": xy[:, 1]}
        quality = [{"n_neighbors": k, "min_dist": d, "trustworthiness": 0.95} for k, d in settings]
        about = {"model": model, "dataset": dataset, "quality": quality, "seed": 0}
        file = self.root / paths.UMAP.format(study=study, dataset=dataset, model=model)
        contracts.write_table(contracts.UMAP, file, columns, about)
        return file


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def both(small) -> tuple[Project, Study]:
    """The small study by both protocols; ``ct`` has no group key, ``worst`` was not made by group."""
    project, study = small
    project.dataset("ct", title="CT & friends", group_note="no patient is named")
    for model in ("best", "tied", "pixels"):
        project.scores("s", "mr", model, [0.6, 0.62, 0.64], protocol="group")
    split = study.split.model_copy(update={"protocols": ["image", "group"]})
    return project, study.model_copy(update={"split": split})


@pytest.fixture
def small(project) -> tuple[Project, Study]:
    """Three vision models and a control on two data sets, all cells made.

    ``best`` and ``tied`` print the same accuracy on ``ct``; the control beats them all.
    """
    for name in ("best", "tied", "worst"):
        project.model(name, title=name.title())
    project.model("pixels", title="Pixels", group="control")
    project.dataset("ct", title="CT & friends", classes=("a", "b"))
    project.dataset("mr", title="MR", classes=("a", "b", "c"), modality="MRI", group_key="patient")
    project.manifest("ct", [0] * 30 + [1] * 10)
    project.manifest("mr", [0] * 20 + [1] * 10 + [2] * 10)
    levels = {"best": 0.9, "tied": 0.9002, "worst": 0.8, "pixels": 0.99}
    for model, level in levels.items():
        for dataset in ("ct", "mr"):
            project.features(dataset, model)
            values = [level - 0.02, level, level + 0.02]
            project.scores("s", dataset, model, values if dataset == "ct" else [v - 0.1 for v in values])
    study = Study(study="s", models=list(levels), datasets=["ct", "mr"])
    return project, study
