"""Typed YAML: strict pydantic models whose errors name file, field, value seen and values allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from discern.errors import DiscernError, did_you_mean

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Strict(BaseModel):
    """A record that refuses unknown fields and cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Titled(Strict):
    """A record whose ``title`` is its name where none is given."""

    @model_validator(mode="before")
    @classmethod
    def _title(cls, content: Any) -> Any:
        if isinstance(content, dict) and not content.get("title"):
            return content | {"title": str(content.get("name", ""))}
        return content


Model = TypeVar("Model", bound=BaseModel)


class _NoDuplicates(Loader):  # type: ignore[misc, valid-type]
    """YAML silently keeps the last of two equal keys; a study must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key '{key.value}'", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping; errors name file and line."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as handle:
            content = yaml.load(handle, Loader=_NoDuplicates)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError as error:
        raise DiscernError(f"{path}: no such file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise DiscernError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise DiscernError(f"{path}: expected a mapping of fields, found {type(content).__name__}")
    return content


def field_name(location: tuple[int | str, ...]) -> str:
    """('svm', 't', 2) -> 'svm.t[2]'."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields beside an unknown one, for 'did you mean'."""
    current: Any = model
    for part in location:
        candidates = [current, *getattr(current, "__args__", ())]
        record = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if record is None or not isinstance(part, str) or part not in record.model_fields:
            continue
        current = record.model_fields[part].annotation
    candidates = [current, *getattr(current, "__args__", ())]
    record = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return list(record.model_fields) if record else []


def parse(model: type[Model], content: dict[str, Any], where: str | Callable[[str], str]) -> Model:
    """Validate ``content``; all mistakes are reported together.

    ``where`` is the file's name, or a function from a field's name to the file that sets it.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_explain(model, item, where) for item in error.errors()]
        raise DiscernError("\n".join(lines)) from error


def _explain(model: type[BaseModel], item: Any, where: str | Callable[[str], str]) -> str:
    name = field_name(item["loc"])
    file = where(name) if callable(where) else where
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, item["loc"][:-1])
        hint = did_you_mean(str(item["loc"][-1]), known)
        return f"{file}: unknown field '{name}'{hint}\n  allowed: {', '.join(known)}"
    if item["type"] == "missing":
        return f"{file}: field '{name}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{file}: {name}: {message}; found {item['input']!r}"
