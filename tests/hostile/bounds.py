"""What no input may do: end in anything but a clear error, take for ever, or take the machine's memory."""

import contextlib
import os
import signal
import tempfile
from pathlib import Path

from discern.errors import DiscernError

SECONDS = 20  # of CPU, per input; the slowest takes a tenth of it
LONGEST = 20_000  # characters of a message: a person reads it


class Hang(BaseException):
    """An input took too long. Not an Exception, so that no reader swallows it."""


@contextlib.contextmanager
def guarded(seconds=SECONDS):
    """Let a DiscernError pass as an answer, and everything else as what it is: a mistake of ours."""

    def ring(signum, frame):
        raise Hang(f"not done after {seconds} s of CPU")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except DiscernError as error:
        text = str(error)
        assert text.strip(), "an empty message"
        assert len(text) < LONGEST, f"a message of {len(text)} characters"
        text.encode("utf-8", "surrogateescape")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def scratch():
    """A folder of one example: hypothesis runs many in one test, which share ``tmp_path``."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        yield Path(folder)


def tried(quick):
    """Examples of a test: ``quick`` in every run, sixty times as many in a long one."""
    return quick * 60 if os.environ.get("DISCERN_FUZZ") == "long" else quick
