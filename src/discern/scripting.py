"""What every workflow script shares: arguments and errors that name the repair."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable

from discern.errors import DiscernError

log = logging.getLogger("discern")


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser with ``--threads``, whose default is one."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--threads", type=int, default=1)
    return result


def run(main: Callable[[argparse.Namespace], None], arguments: argparse.ArgumentParser) -> None:
    """Parse, run; a DiscernError ends with its message and status 1.

    The last line of a failed job's log is its reason: tables and report quote it.
    """
    options = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    started = time.perf_counter()
    try:
        main(options)
    except DiscernError as error:
        sys.exit(f"error: {error}")
    log.info(
        "done in %.1f s, %.1f s of CPU since the process began", time.perf_counter() - started, cpu_seconds()
    )


def cpu_seconds() -> float:
    """User and system time of this process and of those below it that have ended."""
    return sum(os.times()[:4])
