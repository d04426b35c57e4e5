"""Where the images lie that a table names: paths of other systems, other spelling, other folders.

Sheets are written on Windows with back-slashes, suffixes change their case between sheet and disk, and
copies of a data set add folder levels. What is read so is counted in the log; what cannot be found is
left to the caller, who names it all at once.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from discern.data.pictures.containers import file_behind
from discern.errors import problem

log = logging.getLogger("discern")


def relative(text: str, where: str, name: str = "path") -> str:
    """A path of a table with / and below the root; DiscernError if it leads elsewhere or nowhere.

    Back-slashes become /. A single leading one is Windows' way to say 'from here' and is taken away.
    """
    if not text:
        raise problem(where, f"{name} is empty")
    slashed = text.replace("\\", "/")
    if text.startswith("\\") and not text.startswith("\\\\"):
        slashed = slashed.lstrip("/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if slashed.startswith("/") or ".." in parts or slashed[1:2] == ":" or not parts:
        repair = f"map {name} under adapter.columns to a text that is relative to the folder"
        raise problem(where, f"{name} '{text}' leaves the data set's folder", repair=repair)
    return "/".join(parts)


@dataclass
class Places:
    """The files below a root; every folder is listed once."""

    root: Path
    respelt: dict[str, str] = field(default_factory=dict)  # path of the table -> path on disk
    _names: dict[str, frozenset[str]] = field(default_factory=dict)
    _folded: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def find(self, path: str) -> str | None:
        """The path on disk, by its exact name or by the only one that differs in upper and lower case.

        None if there is none; DiscernError if there are several.
        """
        file = str(file_behind(path)) if "#" in path else path
        member = path[len(file) :]
        found = self._find(file)
        if len(found) > 1:
            raise problem(str(self.root), f"'{path}' may be any of {', '.join(found)}")
        if found and found[0] != file:
            self.respelt[file] = found[0]
        return found[0] + member if found else None

    def best(self, folders: Sequence[str], paths: Iterable[str]) -> str:
        """The first of several folders in which all paths are found; else the one that lacks the fewest."""
        if len(folders) == 1:
            return folders[0]
        wanted = list(paths)
        return min(folders, key=lambda folder: sum(not self._find(below(folder, path)) for path in wanted))

    def tell(self) -> None:
        """One log line about the paths that are spelt otherwise on disk."""
        if self.respelt:
            first = next(iter(self.respelt.items()))
            log.info("%d paths differ from the disk in case, e.g. %s is %s", len(self.respelt), *first)

    def _find(self, path: str) -> list[str]:
        folder, _, name = path.rpartition("/")
        if name in self._listing(folder):
            return [path]
        parents = self._find(folder) if folder else [""]
        return [below(parent, there) for parent in parents for there in self._spellings(parent, name)]

    def _listing(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(self.root / folder))
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]

    def _spellings(self, folder: str, name: str) -> list[str]:
        if name in self._listing(folder):
            return [name]
        if folder not in self._folded:
            index: dict[str, list[str]] = {}
            for there in sorted(self._listing(folder)):
                index.setdefault(_fold(there), []).append(there)
            self._folded[folder] = index
        return self._folded[folder].get(_fold(name), [])


def below(folder: str, path: str) -> str:
    """A path in a folder that may be the root."""
    return f"{folder.rstrip('/')}/{path}" if folder not in ("", ".") else path


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
