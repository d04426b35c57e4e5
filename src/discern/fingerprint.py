"""What a cached result depends on: digests of code, cards and environments.

Snakemake reruns a job when its ``params`` change. A digest that ignores comments, layout and
docstrings, and that follows the imports of one script, makes that exact: editing an unrelated
module, reformatting or commenting reruns nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

#: Raise when the meaning of a file or of a card field changes: everything is then made again.
CONTRACT_VERSION = 1

SOURCE = Path(__file__).resolve().parent

#: Modules that only carry values from files to functions. They are left out of code digests, so that
#: a new card field does not re-extract everything; a change of meaning raises CONTRACT_VERSION.
PLUMBING = frozenset(
    {
        "adapter_card",
        "config",
        "contracts",
        "dataset_card",
        "decoding_card",
        "errors",
        "files",
        "fingerprint",
        "free_memory",
        "merge",
        "model_card",
        "paths",
        "registry",
        "scripting",
        "sources",
        "validation",
    }
)


def digest(value: Any) -> str:
    """Sixteen hex digits of any JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _module(file: Path) -> tuple[str, frozenset[str]]:
    """Normalised text of a module and the ``discern`` modules that it names in imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "discern":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            imports.update(names, [str(node.module)])
        elif isinstance(node, ast.Import):
            imports.update(a.name for a in node.names if a.name.split(".")[0] == "discern")
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[:] = body[1:] or [ast.Pass()]
    return ast.dump(tree), frozenset(imports)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _file(module: str) -> Path | None:
    """File of a dotted name under ``discern``, or None for a class or function."""
    path = SOURCE.joinpath(*module.split(".")[1:])
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


@cache
def code_digest(script: Path | str, *modules: str) -> str:
    """Digest of a script and of every library module it reaches, plus ``modules`` named by hand.

    Modules found at run time by name (encoder routes, recipes) are invisible to the import walk and
    are therefore passed as ``modules``, so that editing one route touches only its own models.
    """
    text, found = _module(Path(script).resolve())
    seen, queue = {"": text}, [*found, *modules]
    while queue:
        name = queue.pop()
        file = _file(name)
        if file is None or name in seen or name == "discern" or name.split(".")[1] in PLUMBING:
            continue
        seen[name], more = _module(file)
        queue.extend(more)
    return digest([CONTRACT_VERSION, sorted(seen.items())])
