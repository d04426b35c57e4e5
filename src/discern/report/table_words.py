"""Words that every format of a table prints, spelt by none of them alone."""

from __future__ import annotations

from discern.report.layout import Table, TableCell

CHANCE = "Largest class"


def published_text(cell: TableCell) -> str:
    """'(79, −0.7)', '(79)' where nothing was measured, '' where nothing was published.

    Published values keep the decimals that they were printed with.
    """
    if cell.published is None:
        return ""
    if cell.difference is None:
        return f"({cell.published.mean:g})"
    return f"({cell.published.mean:g}, {cell.difference:+.1f})".replace("-", "−")


def chance_texts(table: Table) -> list[str]:
    """Share of the largest class of every data set, for the last line."""
    return ["" if c.largest_class is None else f"{c.largest_class:.1f}" for c in table.columns]


def key_line(table: Table, bold: str, underlined: str) -> str:
    """What the marks mean; ``bold`` and ``underlined`` are the format's own, with {} for a word."""
    if table.kind == "gaps":
        return f"{bold.format('Bold')}: the interval excludes 0."
    return f"Best {bold.format('bold')}, second best {underlined.format('underlined')}."
