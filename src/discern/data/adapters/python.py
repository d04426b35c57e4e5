"""A function of the user's own: whatever the layout, it names the images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from discern.adapter_card import Python
from discern.data.adapters.entries import Entry, boxes_of, place
from discern.data.adapters.places import Places, relative
from discern.data.adapters.rows import Collector, Request, Scan
from discern.errors import DiscernError, did_you_mean, listed, problem
from discern.own_code import own_function

REQUIRED = ("path", "label")
KEYS = (*REQUIRED, "image_id", "group", "volume", "official_split", "mask_path", "mask_paths", "boxes")


def read(adapter: Python, request: Request) -> Scan:
    """The images that the function names; labels are class names, or numbers in canonical order."""
    collector, places = Collector(request, adapter.labels, indexed=True), Places(request.root)
    entries: list[Entry] = []
    mistakes: list[str] = []
    for number, item in enumerate(_items(adapter, request)):
        try:
            entries.append(_entry(item, f"item {number}", request))
        except DiscernError as error:
            mistakes.append(str(error))
    named = sum(bool(entry.image_id) for entry in entries)
    if 0 < named < len(entries):
        mistakes.append(f"{named} of {len(entries)} items have an image_id; give it for all or none")
    if mistakes := mistakes + place(entries, [""], places, collector):
        what = f"{len(mistakes)} items cannot be used"
        collector.errors.append(listed(adapter.function, what, mistakes))
    places.tell()
    return collector.scan()


def _items(adapter: Python, request: Request) -> Iterator[Any]:
    environment = "data sets are prepared in the environment of envs/data.yaml: add it there"
    function = own_function(adapter.function, "adapter.function", environment)
    number = 0
    try:
        items = function(request.root, **adapter.options)
        if not isinstance(items, Iterable) or isinstance(items, str | Mapping):
            what = f"returned {type(items).__name__}, not an iterable of mappings"
            raise problem(adapter.function, what, repair="return a list, or yield, of one dict per image")
        for item in items:
            number += 1
            yield item
    except DiscernError:
        raise
    except Exception as error:  # whatever the function does
        at = _line(error)
        raise problem(
            adapter.function, f"failed after {number} items ({type(error).__name__}: {error}{at})"
        ) from error
    if not number:
        raise problem(adapter.function, f"named no images below {request.root}")


def _line(error: Exception) -> str:
    """File and line where the user's code failed."""
    trace, found = error.__traceback__, ""
    while trace:
        file = trace.tb_frame.f_code.co_filename
        found = f"; {os.path.basename(file)}, line {trace.tb_lineno}" if file != __file__ else found
        trace = trace.tb_next
    return found


def _entry(item: Any, where: str, request: Request) -> Entry:
    if not isinstance(item, Mapping):
        raise problem(where, f"is {type(item).__name__}, not a mapping of {', '.join(KEYS)}")
    if unknown := [str(key) for key in item if key not in KEYS]:
        hint = did_you_mean(unknown[0], KEYS)
        raise problem(where, f"unknown key '{unknown[0]}'{hint}", allowed=KEYS)
    if lacking := [key for key in REQUIRED if item.get(key) is None]:
        raise problem(where, f"has no {' and no '.join(lacking)}: {dict(item)!r}"[:300])
    masks = item.get("mask_paths") or ()
    if isinstance(masks, str | os.PathLike):
        raise problem(where, "mask_paths must be a list; mask_path is for one")
    masks = [*([item["mask_path"]] if item.get("mask_path") else []), *masks]
    split = _text(item.get("official_split"))
    if not request.pooled(split):  # is only counted
        return Entry(where, "", "", columns={"official_split": split})
    plain = {name: _text(item.get(name)) for name in ("group", "volume")}
    return Entry(
        where,
        _place(item["path"], where, "path", request.root),
        _text(item["label"]) or "",
        tuple(_place(mask, where, "mask_path", request.root) for mask in masks),
        plain | {"official_split": split, "boxes": boxes_of(item.get("boxes"), where)},
        _text(item.get("image_id")) or "",
    )


def _place(value: Any, where: str, name: str, root: Path) -> str:
    """A path of the function below the root; it may hold the root, which it was given."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise problem(where, f"{name} is {type(value).__name__}, not a path")
    path = Path(text)
    for top in (root, root.absolute(), root.resolve()):
        if top.parts and path.is_relative_to(top):
            text = str(path.relative_to(top))
            break
    return relative(text, where, name)


def _text(value: Any) -> str | None:
    """A value as the text that a table would hold: yes and no are 1 and 0."""
    text = "" if value is None else str(int(value) if isinstance(value, bool) else value).strip()
    return text or None
