"""A function of the user's own: what it may return, and what is said of what it may not."""

import sys
from pathlib import Path

import pytest
from adapter_cards import card, rows, touch

from discern.data.adapters import scan
from discern.errors import DiscernError


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function in a module beside the configuration: own(body) is the card that calls it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    touch(tmp_path / "root", "1.png", "2.png", "m1.png", "m2.png")

    def write(body, **adapter):
        sys.modules.pop("my_data", None)
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (tmp_path / "my_data.py").write_text(f"def images(root, **options):\n{lines}\n")
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        return card("python", function="my_data:images", **adapter)

    yield write
    sys.modules.pop("my_data", None)


def test_every_key(own, tmp_path):
    function = own(
        "yield {'path': root / '1.png', 'label': 'liver', 'image_id': 'one', 'group': 7, 'volume': 'v',\n"
        "       'official_split': 'train', 'boxes': [(0, 0, 2, 2)],\n"
        "       'mask_paths': [root / 'm1.png', 'm2.png']}\n"
        "yield {'path': '2.PNG', 'label': options['second'], 'image_id': 'two', 'mask_path': 'm1.png'}",
        options={"second": 1},
    )
    found = rows(function, tmp_path / "root")
    assert found["one"].path == "1.png"
    assert (found["one"].group, found["one"].volume, found["one"].official_split) == ("7", "v", "train")
    assert (found["one"].mask_paths, found["one"].boxes) == (("m1.png", "m2.png"), [[0, 0, 2, 2]])
    assert (found["two"].path, found["two"].label_name, found["two"].group) == ("2.png", "spleen", None)
    assert found["two"].mask_paths == ("m1.png",)


def test_a_relative_root_and_ids_from_paths(own, tmp_path):
    function = own("return [{'path': str(p), 'label': 'liver'} for p in root.glob('[12].png')]")
    assert set(rows(function, Path("root"))) == {"1", "2"}


@pytest.mark.parametrize(
    ("body", "fragments"),
    [
        ("return 3", ["my_data:images: returned int, not an iterable of mappings"]),
        ("return {'path': '1.png'}", ["returned dict"]),
        ("return []", ["named no images below"]),
        ("return ['1.png']", ["item 0: is str, not a mapping of path, label"]),
        (
            "return [{'path': '1.png', 'label': 0}, {'path': '2.png'}]",
            ["1 items cannot", "item 1: has no label"],
        ),
        ("return [{'path': '1.png', 'label': 0, 'grup': 1}]", ["unknown key 'grup'; did you mean 'group'"]),
        ("return [{'path': 7, 'label': 0}]", ["item 0: path is int, not a path"]),
        ("return [{'path': '/etc/x.png', 'label': 0}]", ["item 0: path '/etc/x.png' leaves"]),
        ("return [{'path': '3.png', 'label': 0}]", ["1 files that", "3.png"]),
        ("return [{'path': '1.png', 'label': 'x'}]", ["'x' (1 images, first item 0)"]),
        ("return [{'path': '1.png', 'label': 0, 'mask_paths': 'm1.png'}]", ["mask_paths must be a list"]),
        ("return [{'path': '1.png', 'label': 0, 'boxes': [[2, 0, 1, 1]]}]", ["item 0: boxes are not"]),
        (
            "return [{'path': '1.png', 'label': 0, 'image_id': 'a'}, {'path': '2.png', 'label': 0}]",
            ["1 of 2 items have an image_id"],
        ),
        (
            "return [{'path': f'{i}.png', 'label': 0, 'image_id': 'a'} for i in (1, 2)]",
            ["1 image ids stand for several images", "a (1.png, 2.png)"],
        ),
        (
            "yield {'path': '1.png', 'label': 0}\n1 / 0",
            ["failed after 1 items (ZeroDivisionError", "my_data.py, line 3"],
        ),
    ],
)
def test_wrong_returns_are_named(own, tmp_path, body, fragments):
    function = own(body)
    with pytest.raises(DiscernError) as error:
        scan(function, tmp_path / "root")
    for fragment in fragments:
        assert fragment in str(error.value)


def test_no_such_module_or_function(own, tmp_path):
    function = own("return []")
    with pytest.raises(DiscernError, match=r"adapter.function: there is no module 'not_there'"):
        scan(card("python", function="not_there:images"), tmp_path)
    with pytest.raises(DiscernError, match="has no function 'imags'; did you mean 'images'"):
        scan(card("python", function="my_data:imags"), tmp_path)
    assert function.adapter.function == "my_data:images"
    with pytest.raises(ValueError, match=r"must be package\.module:function"):
        card("python", function="my_data.images")
