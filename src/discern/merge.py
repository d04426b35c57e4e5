"""A card with the fields that a variant or a reading changes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def merged(base: dict[str, Any], changes: dict[str, Any], whole: Collection[str]) -> dict[str, Any]:
    """``base`` with ``changes``: records gain fields; lists, other kinds fields ``whole`` are replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        records = isinstance(value, dict) and isinstance(old, dict) and key not in whole
        if records and old and value.get("kind", old.get("kind")) == old.get("kind"):
            result[key] = merged(old, value, whole)
        else:
            result[key] = value
    return result
