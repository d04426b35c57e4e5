"""Functions of a user's own modules, which lie beside ``config.yaml`` or are installed.

Networks that no library builds and data sets that no adapter reads are brought in the same way.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from discern.errors import did_you_mean, problem


def own_function(reference: str, where: str, environment: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names.

    ``where`` is the card and field, ``environment`` says how a library that the module lacks is added;
    both are for messages. Raises DiscernError if there is no such module or function.
    """
    name, _, function = reference.partition(":")
    if not name or not function.isidentifier():
        raise problem(where, f"found '{reference}'", allowed=["package.module:function"])
    source = _import(name, where, environment)
    found = getattr(source, function, None)
    if not callable(found):
        known = [n for n, value in vars(source).items() if callable(value) and not n.startswith("_")]
        raise problem(where, f"module '{name}' has no function '{function}'{did_you_mean(function, known)}")
    return found


def _import(name: str, where: str, environment: str) -> ModuleType:
    # The workflow runs in the folder of config.yaml; a script's own folder is what Python would search.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        lacks = error.name or name
        if name == lacks or name.startswith(lacks + "."):
            raise problem(
                where,
                f"there is no module '{lacks}'",
                repair=f"write {lacks.replace('.', '/')}.py in {os.getcwd()}, or install its package",
            ) from error
        raise problem(
            where, f"module '{name}' needs '{lacks}', which this environment lacks", repair=environment
        ) from error
    except Exception as error:  # a syntax error, or whatever the module does when imported
        raise problem(
            where, f"module '{name}' cannot be imported ({type(error).__name__}: {error})"
        ) from error
