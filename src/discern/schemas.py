"""What is generated from the typed models: JSON schemas for editors, and the field tables of the docs.

``python -m discern schemas`` writes both; a test keeps the committed files in step.
"""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from discern import adapter_card, dataset_card, decoding_card, model_card, sources
from discern.config import Study
from discern.dataset_card import DatasetCard
from discern.files import write_text
from discern.model_card import ModelCard
from discern.validation import Strict

FOLDER = Path("workflow/schemas")
FIELDS = Path("docs/registry.md")
BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"
MODELS: dict[str, type[BaseModel]] = {"study": Study, "model": ModelCard, "dataset": DatasetCard}


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of one typed model."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | model.model_json_schema()


def text(name: str) -> str:
    """Content of ``<name>.schema.json``."""
    return json.dumps(schema(MODELS[name]), indent=2) + "\n"


def write_schemas(folder: Path = FOLDER) -> list[Path]:
    """Write every schema and return the files."""
    files = [folder / f"{name}.schema.json" for name in MODELS]
    for name, file in zip(MODELS, files, strict=True):
        write_text(file, text(name))
    return files


# Which records are tables of the docs, in the order of the page.
TABLES = {
    "model": [
        "ModelCard", "Loader", "Preprocess", "VolumePreprocess", "Feature", "TextTower", "Tokenizer",
        "Training", "Parity",
    ],
    "dataset": [
        "DatasetCard", "ClassEntry", "ImageFolder", "DicomFolder", "Csv", "Join", "Parquet", "Npz", "Python",
        "Decoding", "Range", "Level",
    ],
    "source": [
        "PackageFile", "HubFile", "UrlFile", "GitSource", "KaggleSource", "ManualFile", "Library", "Nothing",
        "RecipeSource",
    ],
}  # fmt: skip


def write_fields(file: Path = FIELDS) -> Path:
    """Bring the field tables of the documentation up to date; returns the file."""
    write_text(file, with_fields(file.read_text(encoding="utf-8")))
    return file


def with_fields(page: str) -> str:
    """The page with everything between its ``generated`` and ``end`` marks made anew."""
    for name, records in TABLES.items():
        before, rest = page.split(BEGIN.format(name) + "\n", 1)
        after = rest.split(END, 1)[1]
        tables = "\n".join(_fields(_record(record)) for record in records)
        page = f"{before}{BEGIN.format(name)}\n{tables}{END}{after}"
    return page


def _record(name: str) -> type[BaseModel]:
    modules = (model_card, dataset_card, adapter_card, decoding_card, sources)
    return next(getattr(m, name) for m in modules if hasattr(m, name))


def _fields(record: type[BaseModel]) -> str:
    """One record as a Markdown table; the meaning of a field is the comment on its line."""
    text = " ".join((record.__doc__ or "").split()).replace("``", "`")
    rows = [
        f"### {record.__name__}",
        "",
        text,
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
    ]
    cells: dict[str, list[str]] = {}
    for ancestor in reversed(record.__mro__):
        if issubclass(ancestor, Strict) and ancestor is not Strict:
            cells |= _own_fields(ancestor)  # what a record defines anew stays in its place
    rows += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells.values()]
    return "\n".join(rows) + "\n"


def _own_fields(record: type[BaseModel]) -> dict[str, list[str]]:
    """Field -> name, type, default and meaning of those that the record itself defines."""
    source = inspect.getsource(record)
    lines = source.splitlines()
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target)
            comment = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")[2]
            found[name] = [f"`{name}`", f"`{ast.unparse(node.annotation)}`", _default(node), comment]
    return found


def _default(node: ast.AnnAssign) -> str:
    value = node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Field":
        value = next((k.value for k in value.keywords if k.arg == "default"), None)
    return "required" if value is None else f"`{ast.unparse(value)}`"
