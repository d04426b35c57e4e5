"""Cells of CSV files that a spreadsheet shows and does not run."""

from __future__ import annotations

from typing import Any

BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


def no_formula(value: Any) -> Any:
    """The value; a text that a spreadsheet would take for a formula with an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(BEGINNINGS) else value
