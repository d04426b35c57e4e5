"""What every workflow script shares: arguments and errors that name the repair."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from discern.errors import DiscernError, problem
from discern.free_memory import MORE_MEMORY, available, gib, out_of_memory
from discern.secrets import redacted

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
        sys.exit(redacted(f"error: {error}"))
    except Exception as error:
        if not (said := lacking(error)):
            raise
        log.info("where it happened:", exc_info=True)
        sys.exit(redacted(f"error: {said}"))
    log.info(
        "done in %.1f s, %.1f s of CPU since the process began", time.perf_counter() - started, cpu_seconds()
    )


def lacking(error: Exception) -> DiscernError | None:
    """What the machine or the job's limits do not give, as an error with its repair; None: something else."""
    job, free = Path(sys.argv[0]).stem, available()
    said = (str(error).splitlines() or [type(error).__name__])[0]
    left = "" if free is None else f"; {gib(free)} are free"
    if "can't start new thread" in said:
        repair = f"fewer threads (`--cores`), or a larger `ulimit -u`; or {MORE_MEMORY}"
        return problem(job, f"no further thread can be started ({said}{left})", repair=repair)
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        repair = "free space, or move results/ and resources/ to a larger disk and link them; then run again"
        return problem(job, f"the disk is full ({said})", repair=repair)
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        repair = "give this user the right to it (results/ and resources/ are written), then run again"
        return problem(job, f"the file system refuses ({said})", repair=repair)
    if out_of_memory(error):
        kind = type(error).__name__
        return problem(job, f"memory ran out ({kind}: {said}{left})", repair=MORE_MEMORY)
    return None


def cpu_seconds() -> float:
    """User and system time of this process and of those below it that have ended."""
    return sum(os.times()[:4])
