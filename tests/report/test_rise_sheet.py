"""The sheet shows heat where the map is hot, the target's outline, and fits its captions."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from discern.contracts import MANIFEST, RISE, write_table
from discern.errors import DiscernError
from discern.model_card import Preprocess
from discern.report.rise_ink import colours, font, outline, plain, shorten
from discern.report.rise_sheet import (
    HEADER,
    MARGIN,
    OUTLINE,
    TILE,
    WIDTH,
    Panel,
    draw_cell,
    draw_sheet,
    overlay,
)

ABOUT = {"estimator": "plain", "n_masks": 256, "grid": 8, "p": 0.5, "fold": 0}


def hot_corner():
    saliency = np.zeros((56, 56))
    saliency[:14, :14] = 3.0
    return saliency


def panel(index=0, target=None):
    row = {
        "image_id": f"a_very_long_image_name_{index:04}" * 3,
        "correct": index % 2 == 0,
        "decision": 1.25,
        "standard_error": 0.034,
        "n_masks": 256,
        "target_share": None if target is None else 0.6,
        "target_area": None if target is None else 0.1,
    }
    view = Image.new("RGB", (224, 224), (90, 90, 90))
    return Panel(view, hot_corner(), target, row, ("urinary_bladder", "small_bowel"))


def test_hot_corner_is_bright_and_the_rest_dark():
    picture = np.asarray(overlay(Image.new("RGB", (112, 112), (90, 90, 90)), hot_corner(), None), float)
    assert picture[:20, :20].mean() > 2 * picture[60:, 60:].mean()


def test_constant_map_is_drawn():
    picture = np.asarray(overlay(Image.new("RGB", (40, 40)), np.full((8, 8), 2.0), None))
    assert (picture == picture[0, 0]).all()


def test_outline_follows_the_target():
    target = np.zeros((112, 112), bool)
    target[30:60, 40:80] = True
    picture = np.asarray(overlay(Image.new("RGB", (112, 112)), hot_corner(), target))
    rows, columns = np.nonzero((picture == OUTLINE).all(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 59, 40, 79)
    assert len(rows) == 2 * 30 + 2 * 40 - 4
    assert not outline(np.ones((5, 5), bool)).any()


def test_colours_grow_brighter_all_the_way():
    brightness = colours(np.linspace(0, 1, 50)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 0).all()


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_sheet_wraps_rows_at_its_width(n, rows):
    one = draw_sheet([panel()], "MobileNetV2", "MR organs", ABOUT).height
    sheet = draw_sheet([panel(i) for i in range(n)], "MobileNetV2", "MR organs", ABOUT)
    more = draw_sheet([panel(i) for i in range(4)], "MobileNetV2", "MR organs", ABOUT).height - one
    assert sheet.size == (WIDTH, one + (rows - 1) * more)


def test_captions_stay_inside_their_room():
    text = "a_very_long_image_name_that_goes_on_0001"
    short = shorten(text, font(12), 120, middle=True)
    assert font(12).getlength(short) <= 120
    assert short.startswith("a_very")
    assert short.endswith("0001")
    assert "..." in short
    assert shorten("liver", font(12), 120) == "liver"


def test_letters_that_the_font_lacks_are_replaced():
    assert plain("Ménière → 5") == "Meniere ? 5"


def test_older_pillow_has_one_size(monkeypatch):
    built_in = ImageFont.load_default
    monkeypatch.setattr(ImageFont, "load_default", lambda: built_in())
    font.cache_clear()
    assert draw_sheet([panel()], "MobileNetV2", "MR organs", ABOUT).width == WIDTH
    font.cache_clear()


@pytest.fixture
def cell(tmp_path):
    """A RISE table of one dark image with a hot corner, and its manifest."""
    Image.new("RGB", (60, 40), (10, 10, 10)).save(tmp_path / "dark.png")
    manifest = {
        "image_id": ["dark"],
        "path": ["dark.png"],
        "sha256": ["0"],
        "label": [0],
        "label_name": ["liver"],
        "group": [None],
        "volume": [None],
        "official_split": [None],
        "width": [60],
        "height": [40],
        "mode": ["RGB"],
        "cluster": [None],
        "mask_path": [None],
        "boxes": [[[0, 0, 30, 20]]],
    }
    about = {"root": str(tmp_path), "made": "", "decoding": {}, "classes": ["liver", "spleen"]}
    write_table(MANIFEST, tmp_path / "manifest.parquet", manifest, about)
    rise = {
        "image_id": ["dark"],
        "true": [0],
        "predicted": [1],
        "correct": [False],
        "decision": [1.0],
        "saliency": [hot_corner().ravel().astype(np.float16)],
        "saliency_error": [np.zeros(56 * 56, np.float16)],
        "standard_error": [0.034],
        "n_masks": [256],
        "hottest_in_target": [True],
        "target_share": [1.0],
        "target_area": [0.25],
    }
    write_table(RISE, tmp_path / "rise.parquet", rise, ABOUT | {"saliency_size": [56, 56]})
    return tmp_path


def draw(cell, manifest="manifest.parquet"):
    transform = Preprocess(resize="squash", size=64)
    files = cell / "rise.parquet", cell / manifest
    draw_cell(*files, transform, cell / "sheet.png", "MobileNetV2", "MR organs")


def test_sheet_of_a_table_has_heat_and_outline(cell):
    draw(cell)
    pixels = np.asarray(Image.open(cell / "sheet.png").convert("RGB"), float)
    assert pixels.shape[1] == WIDTH
    drawn = (pixels == OUTLINE).all(axis=-1)
    rows, columns = np.nonzero(drawn)
    right, below = columns.max(), rows.max()  # lower right corner of the box: the middle of the tile
    assert pixels[below - 60 : below - 40, right - 60 : right - 40].mean() > 150
    assert pixels[below + 20 : below + 60, right + 20 : right + 60].mean() < 30


def test_explained_image_must_be_in_the_manifest(cell):
    from discern.contracts import read_table

    table, about = read_table(MANIFEST, cell / "manifest.parquet")
    write_table(MANIFEST, cell / "other.parquet", table.slice(1), about)
    with pytest.raises(DiscernError, match="'dark' is not in the manifest"):
        draw(cell, "other.parquet")


def test_a_portrait_view_keeps_its_proportions(cell):
    """Stored 56 x 34, seen 80 x 48: the heat fills the picture and nothing beside it."""
    from discern.contracts import read_table

    table, about = read_table(RISE, cell / "rise.parquet")
    columns = table.to_pydict()
    columns["saliency"] = [hot_corner()[:, :34].ravel().astype(np.float16)]
    columns["saliency_error"] = [np.zeros(56 * 34, np.float16)]
    write_table(RISE, cell / "portrait.parquet", columns, about | {"saliency_size": [56, 34]})
    transform = Preprocess(resize="squash", size=(80, 48))
    files = cell / "portrait.parquet", cell / "manifest.parquet"
    draw_cell(*files, transform, cell / "sheet.png", "Mammo-CLIP", "MR organs")
    pixels = np.asarray(Image.open(cell / "sheet.png").convert("RGB"), int)
    dark = (pixels[HEADER : HEADER + TILE, MARGIN : MARGIN + TILE] < 40).all(axis=-1)
    rows, columns = np.nonzero(dark)
    assert (rows.min(), rows.max()) == (0, TILE - 1)
    assert abs((columns.max() + 1 - columns.min()) - TILE * 48 / 80) <= 1
    assert abs(columns.min() - (TILE - 1 - columns.max())) <= 1
