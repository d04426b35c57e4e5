"""Figures: unique class styles, the right setting, whole views, themes; hostile names are harmless."""

import re

import numpy as np
import pytest
from PIL import Image

from discern import paths
from discern.model_card import MODEL_GROUPS
from discern.report.figures import (
    PALETTE,
    _reach,
    nearest_setting,
    read_maps,
    style_of,
    umap_figure,
    umap_grid,
)
from discern.report.records import collect
from discern.report.score_figure import COLOURS, score_figure

SETTINGS = ((5, 0.1), (15, 0.0), (15, 0.1), (50, 0.5))


@pytest.fixture
def maps(project):
    names = [f"_class $x_{i}$ with a rather long name" for i in range(11)]
    project.model("net")
    project.dataset("ct", title="CT $^ & co", classes=names)
    labels = [i % 11 for i in range(110)]
    project.manifest("ct", labels)
    table = project.umap("s", "ct", "net", labels, SETTINGS)
    return table, project.root / paths.MANIFEST.format(dataset="ct")


def test_every_class_has_its_own_colour_and_marker():
    assert len({tuple(style_of(i).values()) for i in range(64)}) == 64
    assert [style_of(i)["color"] for i in range(8)] == list(PALETTE)


def test_the_nearest_setting_goes_by_ratio_then_distance():
    assert nearest_setting([(5, 0.1), (30, 0.1), (50, 0.1)]) == (30, 0.1)
    assert nearest_setting([(15, 0.0), (15, 0.25), (50, 0.1)]) == (15, 0.0)


def test_maps_join_labels_by_image(maps):
    found = read_maps(*maps)
    assert list(found.settings) == [(5, 0.1), (15, 0.0), (15, 0.1), (50, 0.5)]
    assert found.title == "net on CT $^ & co, n = 110"
    xy, labels = found.settings[15, 0.0]
    assert xy.shape == (110, 2)
    # Points were drawn around one centre per class: labels in the wrong order would spread them.
    spread = max(xy[labels == i].std() if i < 0 else np.ptp(xy[labels == i], axis=0).max() for i in range(11))
    assert spread < 3


def test_figures_are_small_palette_files_with_every_class_colour(maps, tmp_path):
    umap_figure(*maps, tmp_path / "map.png")
    umap_grid(*maps, tmp_path / "grid.png")
    for name in ("map.png", "grid.png"):
        with Image.open(tmp_path / name) as image:
            assert image.mode == "P"
            assert 900 <= image.width <= 1500
            colours = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
        assert (tmp_path / name).stat().st_size < 150_000
        for colour in PALETTE:
            wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            assert (np.abs(colours - wanted).max(axis=1) < 40).any(), colour


def test_views_keep_the_scale_of_both_axes():
    xy = np.array([[0.0, 0.0], [10.0, 1.0]])
    for ratio in (1.0, 2.0):
        x, y = _reach(xy, ratio)
        assert x == pytest.approx(ratio * y)
        assert x >= 5
        assert y >= 0.5
    assert _reach(np.zeros((3, 2)), 1.0) == (1.0, 1.0)


def test_score_figure_follows_the_theme_and_names_everything(small):
    project, study = small
    svg = score_figure(collect(study, project.registry, project.root), "accuracy", "image")
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "#010203" not in svg
    for name in ("Best", "Pixels", "CT &amp; friends", "Controls", "Largest class"):
        assert name in svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert all(i.startswith("accuracy-image-") for i in ids)


def test_every_group_of_models_has_a_colour_of_its_own():
    assert COLOURS.keys() == MODEL_GROUPS.keys()
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_no_score_figure_without_scores(project):
    from discern.config import Study

    project.model("net")
    project.dataset("ct")
    study = Study(study="s", models=["net"], datasets=["ct"])
    assert score_figure(collect(study, project.registry, project.root), "accuracy", "image") == ""
