"""What the routes through the authors' own runtimes share: a closed room for code that is not ours.

The authors' loaders read a whole repository folder, fetch what they miss from the hub, unpickle what
they find and only warn about tensors that do not fit. Here they get a folder of links with nothing to
fetch, read tensors and no pickled code, and what they loaded is compared with the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from discern.encoders.base import Request
from discern.encoders.checkpoint import INDEX, SUFFIXES, Checkpoint, some
from discern.errors import DiscernError, problem
from discern.secrets import NAMED


def offline() -> None:
    """No hub access for the libraries that are imported after this call, and no secrets for their code."""
    for variable in [name for name in os.environ if NAMED.search(name) or name.endswith("INDEX_URL")]:
        del os.environ[variable]
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[variable] = "1"


def checkout(request: Request, folder: Path, rewrite: dict[str, Callable[[Any], Any]]) -> Path:
    """Link every fetched file into ``folder``; JSON files named in ``rewrite`` are copied, changed.

    Raises DiscernError for a file of ``rewrite`` that was not fetched or is no JSON.
    """
    for name, file in request.weights.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name not in rewrite:
            target.symlink_to(Path(file).resolve())
    for name, change in rewrite.items():
        target = folder / name
        try:
            content = json.loads(Path(request.weights[name]).read_text(encoding="utf-8"))
        except (KeyError, OSError, ValueError) as error:
            raise problem(
                f"model '{request.model}'",
                f"the repository's {name} is missing or unreadable ({error})",
                repair="list it under weights.files in the model card, and fetch the weights again",
            ) from error
        target.write_text(json.dumps(change(content)), encoding="utf-8")
    return folder


@contextlib.contextmanager
def tensors_only(request: Request) -> Iterator[None]:
    """While inside, every ``torch.load`` reads tensors alone, and a loader's failure names the model.

    Old libraries call it without ``weights_only``. Formats before PyTorch 1.6 are refused as well:
    releases before 2.6 execute code from them even then.
    """
    where, original = f"model '{request.model}'", torch.load
    refused: list[DiscernError] = []

    def load(file: Any, *args: Any, **options: Any) -> Any:
        try:
            if not zipfile.is_zipfile(file):
                raise ValueError("not a zip archive of PyTorch 1.6 or later")
            if hasattr(file, "seek"):
                file.seek(0)
            return original(file, *args, **options | {"weights_only": True})
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            refused.append(
                problem(
                    str(file),
                    f"holds more than tensors, or is damaged, and is refused ({reason})",
                    repair="convert it to safetensors where you trust it, or fetch it again",
                )
            )
            raise refused[0] from error

    torch.load = load
    try:
        yield
    except DiscernError:
        raise
    except Exception as error:  # authors' code, whatever it raises
        if refused:
            raise refused[0] from error
        raise problem(where, f"the authors' loader failed ({type(error).__name__}: {error})") from error
    finally:
        torch.load = original


def verify(
    module: torch.nn.Module, files: dict[str, Path], prefix: str, where: str, dtype: torch.dtype
) -> None:
    """DiscernError unless every tensor of ``module`` is the published one under ``prefix``.

    ``dtype`` is the precision in which the authors' loader keeps it. The authors' libraries report a
    missing tensor as a warning and leave it random.
    """
    indices = [f for n, f in files.items() if n.endswith(INDEX)]
    weights = [f for n, f in sorted(files.items()) if f.suffix in SUFFIXES]
    published = Checkpoint(weights, [prefix], indices)
    target = module.state_dict()
    wrong = [prefix + n for n in target if prefix + n not in published.shapes]
    for name, origin in published.read(n for n in published.shapes if n.removeprefix(prefix) in target):
        tensor = target[name.removeprefix(prefix)]
        if not torch.equal(tensor.cpu().float(), origin.to(dtype).float()):
            wrong.append(name)
    # 0..n-1, in some releases a buffer that is saved
    wrong = [name for name in wrong if not name.endswith("position_ids")]
    if wrong:
        raise problem(
            where,
            f"tensors that the authors' loader did not take from the files: {some(wrong)}",
            repair="fetch the weights again; if it repeats, this is not the checkpoint that the card means",
        )
