"""The one exception users meet, with a message that names place, value and repair."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 20  # names printed before the rest is only counted


class DiscernError(Exception):
    """A mistake in the input that a person can repair; shown without a traceback."""


def problem(where: str, what: str, *, allowed: Iterable[object] = (), repair: str = "") -> DiscernError:
    """Build the standard message: place, what is wrong, what is allowed, how to repair it."""
    parts = [f"{where}: {what}"]
    options = [str(option) for option in allowed]
    if options:
        parts.append(f"allowed: {', '.join(options)}")
    if repair:
        parts.append(f"repair: {repair}")
    return DiscernError("\n  ".join(parts))


def listed(where: str, what: str, names: list[str], repair: str = "") -> DiscernError:
    """A problem with a list of names: twenty are shown, the rest is counted."""
    lines = [f"{what}:", *(f"  {name}" for name in names[:SHOWN])]
    if len(names) > SHOWN:
        lines.append(f"  and {len(names) - SHOWN} more")
    return problem(where, "\n".join(lines), repair=repair)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known names, or an empty string."""
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
