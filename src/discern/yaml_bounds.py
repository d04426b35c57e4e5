"""How large and how deeply nested a YAML file may be, found out before anything of it is built.

A few lines can stand for gigabytes (aliases of aliases), and brackets in brackets end the C library
that reads them. The pass over the file's events builds nothing and cannot recurse.
"""

from __future__ import annotations

import yaml

from discern.errors import problem

#: Characters; the largest card has 20,000.
MOST_TEXT = 4_000_000

#: Values after every alias is replaced by what it stands for.
MOST_VALUES = 200_000

#: Levels of lists and mappings; cards have up to 7.
DEEPEST = 60

Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_bounds(text: str, where: str) -> None:
    """DiscernError if the YAML ``text`` is beyond a bound; yaml.YAMLError if it is no YAML."""
    if len(text) > MOST_TEXT:
        raise problem(where, f"has {len(text)} characters, no card or study has more than {MOST_TEXT}")
    sizes: dict[str, tuple[int, int]] = {}  # anchor -> values and levels of what it stands for
    open_: list[tuple[str | None, list[int]]] = [(None, [0, 0])]
    for event in yaml.parse(text, Loader=Parser):
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, [0, 0]))
            done = None
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, (values, levels) = open_.pop()
            done = (values + 1, levels + 1)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_}:
                raise problem(where, f"line {_line(event)}: '*{event.anchor}' holds itself")
            anchor, done = None, sizes.get(event.anchor or "", (1, 0))
        elif isinstance(event, yaml.ScalarEvent):
            anchor, done = event.anchor, (1, 0)
        else:
            continue
        if done is not None:
            if anchor is not None:
                sizes[anchor] = done
            inside = open_[-1][1]
            inside[0], inside[1] = inside[0] + done[0], max(inside[1], done[1])
            _check(where, inside[0], inside[1] + len(open_) - 1, _line(event))
        else:
            _check(where, 0, len(open_) - 1, _line(event))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _check(where: str, values: int, levels: int, line: int) -> None:
    if levels > DEEPEST:
        raise problem(where, f"line {line}: nested more than {DEEPEST} levels deep")
    if values > MOST_VALUES:
        raise problem(where, f"line {line}: stands for more than {MOST_VALUES} values")
