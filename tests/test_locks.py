"""The lock of a dead run goes, the lock of a living one or of another host stays."""

import socket
import subprocess
import sys

import pytest

from discern.locks import release_stale_lock


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


def test_the_lock_of_a_living_run_stays(locked):
    folder, lock = locked
    sleeper = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", sleeper, "snakemake"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as living:
        living.stdout.readline()
        assert release_stale_lock(folder) is False
        assert lock.exists()
        living.stdin.close()
    assert release_stale_lock(folder) is True


def test_the_lock_of_another_host_stays(locked):
    folder, lock = locked
    (folder / ".snakemake/lock-host").write_text(socket.gethostname() + "-other")
    assert release_stale_lock(folder) is False
    assert lock.exists()
