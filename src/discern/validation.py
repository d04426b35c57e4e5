"""Typed YAML: strict pydantic models whose errors name file, field, value seen and values allowed."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from discern.errors import SHOWN, DiscernError, did_you_mean, problem
from discern.yaml_bounds import check_bounds

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Strict(BaseModel):
    """A record that refuses unknown fields and cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key '{key.value}'", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping of texts, numbers, lists and mappings; errors name file and line.

    Nothing else is built, whatever the file asks for. Raises DiscernError for a file that cannot be
    read, is larger or more deeply nested than any card (``yaml_bounds``), or holds other values.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        check_bounds(text, str(path))
        content = yaml.load(text, Loader=_NoDuplicates)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError as error:
        raise DiscernError(f"{path}: no such file") from error
    except OSError as error:
        raise DiscernError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DiscernError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DiscernError(f"{path}{line}: not valid YAML: {reason}") from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # PyYAML's own constructors fail so on a wrong date, number or tag.
        raise DiscernError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise DiscernError(f"{path}: expected a mapping of fields, found {type(content).__name__}")
    _check_plain(content, (), str(path))
    return content


def _check_plain(value: Any, location: tuple[int | str, ...], where: str) -> None:
    """DiscernError for a value that JSON cannot hold: jobs are handed their cards as JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, (*location, shown(key)), where)
            _check_plain(item, (*location, str(key)), where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_plain(item, (*location, index), where)
    elif not _is_plain(value):
        what = "a number beyond all bounds" if isinstance(value, int | float) else f"a {type(value).__name__}"
        raise problem(where, f"{field_name(location)}: found {what}", repair="write a text in quotes")


def _is_plain(value: Any) -> bool:
    if isinstance(value, int):  # beyond 64 bits no reader of the JSON agrees with another
        return -(2**63) <= value < 2**63
    return math.isfinite(value) if isinstance(value, float) else value is None or isinstance(value, str)


def shown(value: Any) -> str:
    """A value for a message: on one line, and short however large it is."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 200
    return brief.repr(value)


#: Characters of a field's name in a message.
LONGEST = 300


def field_name(location: tuple[int | str, ...]) -> str:
    """('svm', 't', 2) -> 'svm.t[2]'."""
    name = ""
    for part in location:
        text = str(part) if str(part).isprintable() else ascii(part)
        name += f"[{part}]" if isinstance(part, int) else f".{text}" if name else text
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}..."


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
        mistakes = error.errors(include_url=False, include_context=False)
        lines = [_explain(model, item, where) for item in mistakes[:SHOWN]]
        if len(mistakes) > SHOWN:
            lines.append(f"and {len(mistakes) - SHOWN} more mistakes")
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
    message = message if len(message) <= 3 * LONGEST else f"{message[: 3 * LONGEST]}..."
    return f"{file}: {name}: {message}; found {shown(item['input'])}"
