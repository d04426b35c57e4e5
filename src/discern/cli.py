"""The command line: list the registry, show a card, check machine and study, print results.

Reads cards and small text files only. Heavy libraries are never imported, so that a listing takes
less than a second and works in the workflow's own small environment.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from discern import doctor, paths, preflight, results
from discern.config import Study, read_study
from discern.data.originals.placement import has_files
from discern.encoders.describe import describe
from discern.errors import DiscernError, did_you_mean
from discern.model_card import ModelCard
from discern.model_state import model_state
from discern.registry import DatasetShelf, Registry
from discern.validation import Strict

DEFAULT = Path("config.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 (doctor found a FAIL) or 2 (a mistake)."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except DiscernError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` closed the pipe
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m discern", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        return command

    def add_registry(command: argparse.ArgumentParser) -> None:
        command.add_argument("--registry", action="append", metavar="FOLDER", help="may be repeated")
        command.add_argument("--data-root", default="resources/datasets", metavar="FOLDER")

    add_registry(add("models", _models, "list the model cards"))
    add_registry(add("datasets", _datasets, "list the data-set cards"))
    show = add("show", _show, "show one card with every fact")
    show.add_argument("name")
    add_registry(show)
    pinned = add("pin", _pin, "ask the hub for a model's files; print the lines that pin them in its card")
    pinned.add_argument("model")
    add_registry(pinned)
    files = "configuration files, later ones win; config.yaml comes first as in the workflow"
    add("doctor", _doctor, "check machine, registry and study").add_argument("files", nargs="*", help=files)
    add("study", _study, "print the resolved study").add_argument("files", nargs="*", help=files)
    add("results", _results, "print Table 3 of a study and where its report is").add_argument(
        "study", help="a study's name or its configuration file"
    )
    add("status", _status, "say how the last run of a study went, or goes").add_argument(
        "study", help="a study's name or its configuration file"
    )
    text = "take the tensors out of a fetched pickle that holds more than tensors"
    conversion = add("convert", _convert, text)
    conversion.add_argument("model")
    conversion.add_argument("--trust", metavar="SHA256", help="digest of the file, which you trust")
    conversion.add_argument("--python", default="", metavar="PATH", help="an interpreter that has torch")
    conversion.add_argument("--registry", action="append", metavar="FOLDER", help="may be repeated")
    locked = add("lock", _lock, "write the locks of environments: all versions and hashes behind their pins")
    locked.add_argument("names", nargs="*", help="environments; all of envs/ if none is named")
    locked.add_argument("--upgrade", action="store_true", help="take newer versions of what is not pinned")
    add("schemas", _schemas, "write the JSON schemas, and the field tables of the docs").add_argument(
        "--folder", default=None, metavar="FOLDER"
    )
    return parser


def study_files(files: Sequence[str]) -> list[Path]:
    """The files that Snakemake would merge: config.yaml, if there is one, then those named."""
    named = [Path(f) for f in files]
    if DEFAULT.is_file() and not any(f.is_file() and f.samefile(DEFAULT) for f in named):
        named.insert(0, DEFAULT)
    return named or [DEFAULT]


def _models(options: argparse.Namespace) -> int:
    registry = Registry(options.registry or ["registry"])
    rows = []
    for card in registry.models.all():
        state = model_state(card.name, registry)
        rows.append(
            (
                card.name, card.title, card.group, card.feature.d, _input_size(card), card.environment,
                card.weights.kind + (", gated" if state.gated else ""), state.weights, state.download,
                card.licence,
            )
        )  # fmt: skip
    head = ("name", "title", "group", "d", "input", "environment", "weights", "state", "download", "licence")
    _table(head, rows)
    return 0


def _input_size(card: ModelCard) -> str:
    size = card.volume.size if card.volume else card.transform.input_size
    return " x ".join(map(str, size))


def _datasets(options: argparse.Namespace) -> int:
    shelf = Registry(options.registry or ["registry"]).datasets
    rows = []
    for name in shelf.selectable():
        card = shelf[name]
        kinds = " + ".join(dict.fromkeys(source.kind for source in card.source))
        state, _, _ = _dataset_state(name, shelf, options.data_root)
        rows.append(
            (
                name, card.title, card.modality, card.n or "?", len(card.classes), card.group_key or "-",
                kinds, state, card.reading,
            )
        )  # fmt: skip
    _table(("name", "title", "modality", "n", "classes", "group key", "source", "state", "reading"), rows)
    return 0


def _dataset_state(name: str, shelf: DatasetShelf, data_root: str) -> tuple[str, str | None, Path]:
    """State, what a person must do, and the place of a data set's files."""
    owner = shelf.owner(name)
    place = Path(data_root) / owner
    need = preflight.dataset_need(shelf[owner], str(place))
    here = has_files(place) or Path(paths.DATASET_FETCHED.format(dataset=owner)).is_file()
    return "needs you" if need else "present" if here else "automatic", need, place


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # [reading] is no markup
    # A pipe or a log has no width; lines are then as long as they must be.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 400
    Console(width=width, highlight=False).print(table)


def _show(options: argparse.Namespace) -> int:
    registry = Registry(options.registry or ["registry"])
    base = options.name.split("@")[0]
    is_model, is_dataset = base in registry.models.names(), base in registry.datasets.names()
    if not is_model and not is_dataset:
        hint = did_you_mean(options.name, registry.models.names() + registry.datasets.names())
        raise DiscernError(f"no model or data set is named '{options.name}'{hint}")
    if is_model:
        card = registry.models[options.name]
        print(f"model {card.name} ({registry.models.file(card.name)})\n")
        print(_facts(card))
        if text := _preprocessing(card):
            print(f"transform: {text}")
        for part in [*(f.name for f in card.features), *card.variants]:
            if (other := _preprocessing(card.selected(part))) != text:
                print(f"transform of {card.name}@{part}: {other}")
        print(f"default feature: {card.feature.name} (d = {card.feature.d})")
        state = model_state(options.name, registry)
        owner = registry.models[state.owner]
        _print_state(state.weights, preflight.weights_need(owner), preflight.weights_folder(owner))
    if is_dataset:
        data = registry.datasets[options.name]
        print(f"data set {data.name} ({registry.datasets.file(data.name)})\n")
        print(_facts(data))
        _print_state(*_dataset_state(options.name, registry.datasets, options.data_root))
    return 0


def _pin(options: argparse.Namespace) -> int:
    from discern.pin import pin

    registry = Registry(options.registry or ["registry"])
    card = registry.models[options.model]
    text = pin(card)
    print(f"# for {registry.models.file(options.model)}; compare with what stands there\n{text}", end="")
    return 0


def _print_state(state: str, need: str | None, folder: Path) -> None:
    print(f"files: {state}, {folder}/")
    if need:
        print(f"missing: {need}")


def _facts(value: Strict) -> str:
    import yaml

    facts = value.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=100)


def _preprocessing(card: ModelCard) -> str:
    return describe(card.volume or card.transform)


def _doctor(options: argparse.Namespace) -> int:
    files = study_files(options.files)
    study: Study | None = None
    broken = ""
    try:
        study = read_study(*files)
    except DiscernError as error:
        broken = str(error)
    findings = doctor.examine(files, study, broken)
    print(doctor.render(findings))
    return 1 if any(f.status == "FAIL" for f in findings) else 0


def _study(options: argparse.Namespace) -> int:
    import yaml

    study = read_study(*study_files(options.files)).model_dump(mode="json")
    print(yaml.safe_dump(study, sort_keys=False, allow_unicode=True, width=100), end="")
    return 0


def _results(options: argparse.Namespace) -> int:
    print(results.text(_study_name(options.study)))
    return 0


def _status(options: argparse.Namespace) -> int:
    print(results.status(_study_name(options.study)))
    return 0


def _study_name(study: str) -> str:
    """The name of a study that is given by its name or by its file."""
    return read_study(*study_files([study])).study if Path(study).is_file() else study


def _convert(options: argparse.Namespace) -> int:
    from discern.encoders import convert

    models = Registry(options.registry or ["registry"]).models
    card = models[models.owner(options.model)]
    if options.trust:
        print(f"written: {convert.convert(card, options.trust, options.python)}")
        return 0
    files = convert.pickled_files(card)
    for file in files:
        print(f"{file.path}{' (converted)' if file.converted else ''}")
        print(
            f"  sha256: {file.sha256}\n  modules that it names beside torch: {', '.join(file.foreign) or '-'}"
        )
        print(f"  to convert it: python -m discern convert {card.name} --trust {file.sha256}")
    if not files:
        print(f"no fetched file of {card.name} is a pickle")
    return 0


def _lock(options: argparse.Namespace) -> int:
    from discern.environment_locks import lock_all

    return 1 if lock_all(options.names, options.upgrade) else 0


def _schemas(options: argparse.Namespace) -> int:
    from discern import schemas

    if options.folder:
        files = schemas.write_schemas(Path(options.folder))
    else:
        files = [*schemas.write_schemas(), schemas.write_fields()]
    print(*files, sep="\n")
    return 0
