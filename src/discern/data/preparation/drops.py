"""The images that a card leaves out by name: ids, or patterns in which ``*`` stands for any characters."""

from __future__ import annotations

import re
from collections import defaultdict

from discern.errors import DiscernError, did_you_mean, listed

MANY = 20_000  # ids among which similar ones are not looked for: it takes seconds
LOOKED_UP = 5  # names for which similar ones are looked for


class DropList:
    """The entries of a card; every other character than ``*`` is meant literally."""

    def __init__(self, entries: list[str]):
        self._names = {entry for entry in entries if "*" not in entry}
        self._used: set[str] = set()
        self._entries = list(dict.fromkeys(entries))
        # Patterns by what stands before their first star, so that an id meets few of thousands.
        self._patterns: dict[str, list[tuple[str, re.Pattern[str]]]] = defaultdict(list)
        for entry in self._entries:
            if "*" in entry:
                parts = entry.split("*")
                pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
                self._patterns[parts[0]].append((entry, pattern))
        self._lengths = sorted({len(start) for start in self._patterns})

    def __contains__(self, image_id: str) -> bool:
        """Whether an image is left out; remembers which entries were of use."""
        found = image_id in self._names
        if found:
            self._used.add(image_id)
        for length in self._lengths:
            for entry, pattern in self._patterns.get(image_id[:length], ()):
                if pattern.fullmatch(image_id):
                    self._used.add(entry)
                    found = True
        return found

    def unused(self, where: str, known: list[str]) -> DiscernError | None:
        """The message that names entries which are no image; ``known``: the ids that were asked about."""
        names = [entry for entry in self._entries if entry not in self._used]
        if not names:
            return None
        near = known if len(known) <= MANY else []
        lines = [f"{name}{did_you_mean(name, near) if i < LOOKED_UP else ''}" for i, name in enumerate(names)]
        repair = "correct these names, or take them out of the card"
        return listed(
            where, f"{len(names)} names under `drop` in the card are no image", lines, repair=repair
        )
