"""What each workflow rule is given: its interpreter, its slice of the cards, its digests.

The rules hold no logic; every decision is a method here that a test can call. Values that a job's
result depends on (slices, digests) are kept apart from places (interpreters, folders), because the
workflow reruns a job when the former change and not when the latter do.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from discern import paths
from discern.adapter_card import Python
from discern.config import Study, check_remote_code
from discern.dataset_card import DatasetCard
from discern.environments import environment_digest
from discern.fingerprint import code_digest, digest
from discern.matrix import Cell, cells, explained, protocols
from discern.model_card import CPU_BATCH, GPU_BATCH, WORDS, ModelCard
from discern.registry import Registry
from discern.sources import RecipeSource


def dump(value: BaseModel | dict[str, Any]) -> str:
    """Sorted JSON: equal settings give equal text, whatever their order in the YAML."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True)


class Plan:
    """A study seen by the workflow. ``conda`` is true when Snakemake activates environments itself."""

    def __init__(self, study: Study, base: Path | str = ".", conda: bool = False):
        self.study, self.base, self.conda = study, Path(base), conda
        self.registry = Registry(study.registry)
        self._known: dict[tuple[str, ...], str] = {}

    def _once(self, make: Callable[..., str], *names: str) -> str:
        """``make(*names)``, kept: the workflow asks for every job, and there are few answers."""
        key = (make.__name__, *names)
        if key not in self._known:
            self._known[key] = make(*names)
        return self._known[key]

    # ------------------------------------------------------------------ places

    def here(self, template: str) -> str:
        """A path template of ``discern.paths`` with this study's name filled in."""
        return template.replace("{study}", self.study.study)

    def log(self, template: str, rule: str) -> str:
        """The log file of a rule."""
        return self.here(template).replace("{rule}", rule)

    def benchmark(self, template: str, rule: str) -> str:
        """The benchmark file of a rule, beside its log in the path grammar."""
        return self.log(template, rule).replace("/logs/", "/benchmarks/").replace(".log", ".tsv")

    def script(self, rule: str) -> Path:
        """The script that carries a rule's name."""
        return self.base / "workflow" / "scripts" / f"{rule}.py"

    def environment_file(self, env: str) -> str:
        """Absolute path of an environment's pins."""
        return self._once(self._environment_file, env)

    def _environment_file(self, env: str) -> str:
        return str((self.base / "envs" / f"{env}.yaml").resolve())

    def environment_digest(self, env: str) -> str:
        """Digest of an environment's pins."""
        return self._once(environment_digest, self.environment_file(env))

    def environment_lock(self, env: str) -> list[str]:
        """The file that proves an environment is built; none with conda, which proves it itself."""
        if self.conda:
            return []
        return [paths.ENVIRONMENT.format(env=env, digest=self.environment_digest(env))]

    def python(self, env: str) -> str:
        """The interpreter of an environment."""
        return "python" if self.conda else self._once(self._python, env)

    def _python(self, env: str) -> str:
        return str(Path(self.environment_lock(env)[0]).parent / "bin" / "python")

    def command(self, rule: str, env: str, threads: int = 1) -> str:
        """Interpreter, script and threads: the beginning of every job's shell command."""
        return f"{self._once(self._command, rule, env)} --threads {threads}"

    def _command(self, rule: str, env: str) -> str:
        return shlex.join([self.python(env), str(self.script(rule))])

    def host_command(self, rule: str) -> str:
        """The same, run by the workflow's own interpreter (building environments)."""
        return shlex.join([sys.executable, str(self.script(rule))])

    # ------------------------------------------------------------------ what results depend on

    def code(self, rule: str, *modules: str) -> str:
        """Digest of the code that a rule runs."""
        return self._once(self._code, rule, *modules)

    def _code(self, rule: str, *modules: str) -> str:
        return code_digest(self.script(rule), *modules)

    def model(self, name: str) -> ModelCard:
        """A model's card. A target may name any, so what the study must allow is asked here again."""
        card = self.registry.models[name]
        check_remote_code(card, self.study, self.registry)
        return card

    def weights_source(self, name: str) -> str:
        """What the fetched files of a model depend on: where from, and which tensors are wanted."""
        return self._once(self._weights_source, name)

    def _weights_source(self, name: str) -> str:
        card = self.model(name)
        return dump(
            {
                "weights": card.weights.model_dump(mode="json", exclude=WORDS),
                "prefixes": card.wanted_prefixes(),
            }
        )

    def dataset(self, name: str) -> DatasetCard:
        """A data set's card."""
        return self.registry.datasets[name]

    def recipe_code(self, dataset: str) -> str:
        """Digest of the recipe that makes a data set; downloads are pinned by hash instead."""
        folder = self.base / "src" / "discern" / "data" / "recipes"
        recipes = [s.recipe for s in self.dataset(dataset).source if isinstance(s, RecipeSource)]
        digests = [code_digest(folder / f"{recipe}.py") for recipe in recipes]
        return digest(digests) if digests else ""

    def dataset_source(self, dataset: str) -> str:
        """What the fetched files of a data set depend on: where from."""
        sources = self.dataset(dataset).source
        return json.dumps([s.model_dump(mode="json", exclude=WORDS) for s in sources], sort_keys=True)

    def data_place(self, dataset: str) -> str:
        """Folder or archive of a data set: the study's own choice, or a folder of ``data_root``."""
        return self.study.place(self.registry.datasets.owner(dataset))

    def made(self, dataset: str) -> str:
        """Folder of the pictures that the preparation makes."""
        return paths.MADE.format(dataset=dataset)

    def inspected(self, dataset: str) -> str:
        """Folder of what is known of each file; readings of the same files share it."""
        return paths.INSPECTED.format(dataset=self.registry.datasets.owner(dataset))

    def adapter_code(self, dataset: str) -> str:
        """Digest of the preparation's code with the one adapter, and the module, that a data set takes."""
        adapter = self.dataset(dataset).adapter
        code = self.code("prepare_dataset", f"discern.data.adapters.{adapter.kind}")
        own = self._own_module(adapter.function) if isinstance(adapter, Python) else ""
        return digest([code, own]) if own else code

    def _own_module(self, function: str) -> str:
        """Text of the user's module that ``module:function`` names; empty if there is none."""
        module = function.partition(":")[0]
        file = self.base.joinpath(*module.split(".")).with_suffix(".py")
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def encoder_code(self, rule: str, model: str) -> str:
        """Digest of a rule's code with the one loading route, and the module, that this model takes."""
        return self._once(self._encoder_code, rule, model)

    def _encoder_code(self, rule: str, model: str) -> str:
        loader = self.model(model).loader
        modules = [f"discern.encoders.{loader.route}_route"]
        own = ""
        if loader.route == "python":
            module = loader.arch.partition(":")[0]
            modules += [module] if module.startswith("discern.") else []
            own = self._own_module(loader.arch)
        code = self.code(rule, *modules)
        return digest([code, own]) if own else code

    def fingerprint(self, model: str) -> str:
        """What a feature file depends on beside its manifest: card, environment and code."""
        return self._once(self._fingerprint, model)

    def _fingerprint(self, model: str) -> str:
        card = self.model(model)
        code = self.encoder_code("extract_features", model)
        return digest([card.extraction_spec(), self.environment_digest(card.environment), code])

    def page_code(self) -> str:
        """Digest of the report's code, template and styles."""
        folder = self.base / "src" / "discern" / "report" / "templates"
        texts = [file.read_text(encoding="utf-8") for file in sorted(folder.iterdir())]
        return digest([self.code("render_report"), texts])

    def cards(self) -> str:
        """Digest of every card of the study: tables and report print them."""
        every = [self.model(m) for m in self.study.models] + [self.dataset(d) for d in self.study.datasets]
        return digest([card.model_dump(mode="json") for card in every])

    # ------------------------------------------------------------------ the matrix

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells that run."""
        return [cell for cell in cells(self.study, self.registry) if cell.runs]

    def explained(self) -> list[str]:
        """The data sets on which RISE is run: pictures, as far as the study selects them."""
        return explained(self.study, self.registry)

    def features(self, dataset: str | None = None, controls: bool = True) -> list[str]:
        """The feature files of a data set, or of all; readings that are subsets share them.

        ``controls`` false leaves out the models of the group `control`.
        """
        shelf = self.registry.datasets
        found = {
            paths.FEATURES.format(dataset=shelf.images(cell.dataset), model=cell.model): None
            for cell in self.cells
            if dataset in (None, cell.dataset) and (controls or self.model(cell.model).group != "control")
        }
        return list(found)

    def sharded(self) -> list[str]:
        """The data sets of the study whose features are extracted in shards, by the cards' numbers."""
        shelf, most = self.registry.datasets, self.study.extract.shard_images
        names = dict.fromkeys(shelf.images(cell.dataset) for cell in self.cells)
        return [name for name in names if most and (self.dataset(name).n or 0) > most]

    def sharded_pattern(self) -> str:
        """Regular expression of the names of these data sets; of no name where there are none."""
        return "|".join(map(re.escape, self.sharded())) or "(?!)"

    def whole_pattern(self) -> str:
        """Regular expression of the names of all others, also of those that the study does not list."""
        return f"(?!(?:{self.sharded_pattern()})/)[a-z0-9_@]+"

    def shards(self, dataset: str, model: str) -> list[str]:
        """Rows of each shard: ``first-last`` without the last; of the last one ``first-end``.

        So what a data set has beyond its card's number falls to the last. They begin where batches do.
        """
        batch = self.model(model).batch_size
        # Where batches begin, or the last bits of features would differ.
        step = GPU_BATCH if batch == "auto" else math.lcm(batch, CPU_BATCH)
        size = math.ceil((self.study.extract.shard_images or 1) / step) * step
        starts = list(range(0, self.dataset(dataset).n or 1, size))
        return [f"{a}-{b}" for a, b in itertools.pairwise([*starts, "end"])]

    def shard_files(self, dataset: str, model: str) -> list[str]:
        """The files of the shards, in order."""
        return [paths.SHARD.format(dataset=dataset, model=model, rows=r) for r in self.shards(dataset, model)]

    def hold_out(self, dataset: str) -> list[str]:
        """The splits whose hold-out neighbours are looked for: by image if the study has that; or none."""
        ways = sorted(protocols(self.study, self.dataset(dataset)), key=lambda way: way != "image")
        return [self.here(paths.SPLITS).format(dataset=dataset, protocol=way) for way in ways[:1]]

    def neighbours(self) -> list[str]:
        """What is known of feature neighbours: of data sets with a split and a model that is no control."""
        datasets = dict.fromkeys(cell.dataset for cell in self.cells)
        return [
            self.here(paths.NEIGHBOURS).format(dataset=d)
            for d in datasets
            if self.hold_out(d) and self.features(d, controls=False)
        ]

    def gaps(self) -> list[str]:
        """The comparison of the protocols, where the study has both."""
        return [self.here(paths.GAPS)] if {"image", "group"} <= set(self.study.split.protocols) else []

    def expand(self, template: str, datasets: list[str] | None = None) -> list[str]:
        """A path template filled for every running cell, and protocol if it names one; unique."""
        found: dict[str, None] = {}
        for cell in self.cells:
            if datasets is not None and cell.dataset not in datasets:
                continue
            for protocol in protocols(self.study, self.dataset(cell.dataset)):
                filled = self.here(template).format(model=cell.model, dataset=cell.dataset, protocol=protocol)
                found[filled] = None
        return list(found)
