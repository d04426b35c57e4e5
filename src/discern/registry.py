"""The registry: every model card and data-set card, one YAML file each.

Adding a model or a data set is adding a file. Cards are read without importing any heavy library.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from discern.dataset_card import DatasetCard
from discern.errors import DiscernError, did_you_mean
from discern.model_card import ModelCard
from discern.validation import load_yaml, parse

Card = TypeVar("Card", ModelCard, DatasetCard)


class Shelf(Generic[Card]):
    """Cards of one kind by name, read when first asked for; ``name@part`` is a card as its part."""

    def __init__(self, kind: str, card: type[Card], folders: Iterable[Path]):
        self._kind = kind
        self._card: type[Card] = card
        self._files: dict[str, Path] = {}
        self._cards: dict[str, Card] = {}
        for folder in folders:
            for file in sorted(folder.glob("*.yaml")):
                if file.stem in self._files:
                    raise DiscernError(
                        f"{file}: {kind} '{file.stem}' is already defined in {self._files[file.stem]}"
                    )
                self._files[file.stem] = file

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._files)

    def file(self, name: str) -> Path:
        """The file of the card that ``name`` is taken from."""
        return self._files[name.split("@")[0]]

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and bool(self[name])
        except DiscernError:
            return False

    def __getitem__(self, name: str) -> Card:
        base, *parts = name.split("@")
        if name not in self._cards:
            card = self._read(base)
            for part in parts:
                card = card.selected(part)
            self._cards[name] = card
        return self._cards[name]

    def _read(self, name: str) -> Card:
        if name not in self._files:
            raise DiscernError(f"unknown {self._kind} '{name}'{did_you_mean(name, self._files)}")
        file = self._files[name]
        card = parse(self._card, load_yaml(file), str(file))
        if card.name != name:
            raise DiscernError(f"{file}: name: found '{card.name}', must equal the file's name '{name}'")
        return card

    def all(self) -> list[Card]:
        """Every card, by name."""
        return [self[name] for name in self.names()]


class ModelShelf(Shelf[ModelCard]):
    """Model cards; ``model@part`` is a card's feature or variant."""

    def selectable(self) -> list[str]:
        """Every name that a study may list: models, then ``model@feature`` and ``model@variant``."""
        cards = self.all()
        parts = [f"{c.name}@{p}" for c in cards for p in [*(f.name for f in c.features), *c.variants]]
        return [c.name for c in cards] + parts

    def owner(self, name: str) -> str:
        """The model in whose folder the weights of ``name`` lie: variants share them where they can."""
        base, *parts = name.split("@")
        owner = base
        for i, part in enumerate(parts):
            if "weights" in self["@".join([base, *parts[:i]])].variants.get(part, {}):
                owner = "@".join([base, *parts[: i + 1]])
        return owner


class DatasetShelf(Shelf[DatasetCard]):
    """Data-set cards; ``data_set@reading`` is a card's reading."""

    def selectable(self) -> list[str]:
        """Every name that a study may list: each data set, then its ``data_set@reading``."""
        return [name for c in self.all() for name in (c.name, *(f"{c.name}@{r}" for r in c.readings))]

    def owner(self, name: str) -> str:
        """The data set in whose folder the files of ``name`` lie: readings share them where they can."""
        base, _, part = name.partition("@")
        return name if part and "source" in self[base].readings[part] else base

    def images(self, name: str) -> str:
        """The data set whose features hold those of ``name``: a reading may be a subset of its card."""
        return name.split("@")[0] if self[name].subset else name


class Registry:
    """Every card in one or more registry folders (each with ``models/`` and ``datasets/``)."""

    def __init__(self, folders: Iterable[Path | str] = ("registry",)):
        self.folders = [Path(folder) for folder in folders]
        for folder in self.folders:
            if not os.path.isdir(folder):  # unlike Path's, false for a name that no disk can hold
                raise DiscernError(f"{str(folder)[:300]}: no such registry folder")

    @cached_property
    def models(self) -> ModelShelf:
        """Model cards."""
        return ModelShelf("model", ModelCard, [f / "models" for f in self.folders])

    @cached_property
    def datasets(self) -> DatasetShelf:
        """Data-set cards."""
        return DatasetShelf("data set", DatasetCard, [f / "datasets" for f in self.folders])

    def reference_file(self, name: str) -> Path:
        """The published table ``name`` (CSV) or DiscernError naming those that exist."""
        files = {p.stem: p for f in self.folders for p in sorted((f / "reference").glob("*.csv"))}
        if name not in files:
            raise DiscernError(f"unknown reference table '{name}'{did_you_mean(name, files)}")
        return files[name]
