"""The lock of a dead run goes, the lock of a living one or of another host stays."""

import socket
import subprocess
import sys
import time

import psutil
import pytest

from discern.locks import hold_folder, release_stale_lock


@pytest.fixture
def locked(tmp_path):
    """A folder as a killed run of this host leaves it."""
    assert release_stale_lock(tmp_path) is False  # the killed run's own start
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir()
    lock.touch()
    return tmp_path, lock


def test_the_lock_of_a_dead_run_is_released(locked):
    folder, lock = locked
    assert release_stale_lock(folder) is True
    assert not lock.exists()


HOLDER = """
import sys
from discern.locks import hold_folder
print(hold_folder(sys.argv[1]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def another(tmp_path):
    """Start a Python process in the folder: its code, and what stands on its command line."""
    started = []

    def start(code, *words):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words], cwd=tmp_path, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_lock_of_a_living_run_stays(locked, another):
    folder, lock = locked
    process, answer = another(HOLDER, str(folder))
    assert answer == "True"
    assert release_stale_lock(folder) is False
    assert hold_folder(folder) is False
    assert lock.exists()
    process.kill()
    process.wait()
    assert release_stale_lock(folder) is True
    assert hold_folder(folder) is True


def test_a_job_that_outlives_its_run_does_not_keep_the_folder(tmp_path, another):
    release_stale_lock(tmp_path)
    code = HOLDER.replace("sys.stdin.read()", "import subprocess; subprocess.run(['sleep', '60'])")
    process, answer = another(code, str(tmp_path))
    assert answer == "True"
    deadline = time.monotonic() + 20
    while not (child := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    assert child[0].is_running()
    assert hold_folder(tmp_path) is True
    child[0].kill()


SLEEPER = "import sys; print('up', flush=True); sys.stdin.read()"
MODULE = ("snakemake", "--cores", "1")


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        (MODULE, True),
        (("-m", "snakemake"), True),
        ((*MODULE, "--mode", "remote"), False),  # inside a job of a cluster: goes on when its run is killed
        (("grep", "-r", "x", "y", "snakemake"), False),
        (("notes-about-snakemake.md",), False),
    ],
)
def test_a_run_that_began_before_may_be_about_to_lock(locked, another, words, counts):
    folder, lock = locked
    another(SLEEPER, *words)
    later = "import sys; from discern.locks import release_stale_lock; print(release_stale_lock(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", later, str(folder)], capture_output=True, text=True)
    assert done.stdout.strip() == str(not counts), done.stderr
    assert lock.exists() is counts


def test_of_two_that_start_on_a_stale_lock_the_first_releases_it(locked, another):
    folder, lock = locked
    another(SLEEPER, *MODULE)  # younger than this process
    assert release_stale_lock(folder) is True
    assert not lock.exists()


def test_the_lock_of_another_host_stays(locked):
    folder, lock = locked
    (folder / ".snakemake/lock-host").write_text(socket.gethostname() + "-other")
    assert release_stale_lock(folder) is False
    assert lock.exists()
