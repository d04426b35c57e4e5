"""What the README shows is valid: its cards and its study parse, its commands and files exist."""

import re
from pathlib import Path

import pytest
import yaml

from discern.cli import main
from discern.config import Study
from discern.dataset_card import DatasetCard
from discern.model_card import ModelCard
from discern.registry import Registry
from discern.validation import parse

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    part
    for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    for part in yaml.safe_load_all(block)
]


@pytest.mark.parametrize(
    ("field", "kind"), [("loader", ModelCard), ("adapter", DatasetCard), ("study", Study)]
)
def test_every_yaml_block_parses(field, kind):
    blocks = [block for block in BLOCKS if field in block]
    assert blocks
    for block in blocks:
        parse(kind, block, "README.md")


def test_every_linked_file_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("command", sorted(set(re.findall(r"python -m discern (\w+)", README))))
def test_every_command_exists(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out


def parity_rows():
    """The generated table of docs/models.md: model -> its other columns."""
    page = (
        (ROOT / "docs/models.md").read_text().split("<!-- generated: parity -->")[1].split("<!-- end -->")[0]
    )
    head, _, *rows = [
        [c.strip() for c in line.strip("| ").split(" | ")] for line in page.strip().splitlines()
    ]
    return {row[0].strip("`"): dict(zip(head, row, strict=True)) for row in rows}


def test_the_parity_table_has_every_published_model_and_says_what_its_card_says():
    models, rows = Registry([ROOT / "registry"]).models, parity_rows()
    table1 = yaml.safe_load((ROOT / "config/table1.yaml").read_text())["models"]
    assert len(table1) == 33
    assert set(table1) <= rows.keys()
    for name, row in rows.items():
        card = models[name]
        assert row["route"] == card.loader.route
        assert row["environment"] == card.environment
        assert row["d"] == str(card.feature.d)
        assert row["parity"] == card.parity.kind
        assert row["parameters"] == (f"{card.params:,}" if card.params else "-")
        if "@" not in name:
            assert (row["text tower"] == "none") == (card.text is None), name
        if card.parity.kind == "official":
            assert float(row["features"]) <= 1e-4, name
