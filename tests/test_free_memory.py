"""How much memory is left inside containers, cluster jobs and limits; what is said when it is not enough."""

import json
import subprocess
import sys

import pytest

from discern import free_memory
from discern.errors import DiscernError
from discern.free_memory import GIB, affordable, available, figured, out_of_memory


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A tree as the kernel shows it, empty; ``write`` fills a file of it."""
    monkeypatch.setattr(free_memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path / "cgroup")

    def write(name, text):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
        return file

    return write


def second(write, folder, limit, used, cache=0, mount="cgroup"):
    """A group of version 2."""
    folder = f"{mount}/{folder}".rstrip("/")
    write(f"{folder}/memory.max", limit)
    write(f"{folder}/memory.current", used)
    write(f"{folder}/memory.stat", f"anon 1\ninactive_file {cache}\nactive_file 9999")


JOB = "system.slice/slurmstepd.scope/job_7"


def test_nothing_known_and_the_system_alone(machine):
    assert available() is None
    machine("proc/meminfo", "MemTotal:  9 kB\nMemAvailable:    4096 kB")
    assert available() == 4096 * 1024
    second(machine, "", "max", 5)
    assert available() == 4096 * 1024


def test_the_job_s_own_group_counts_and_those_above_it(machine):
    machine("proc/meminfo", "MemAvailable:    4096 kB")
    machine("proc/self/cgroup", f"0::/{JOB}/step_0/user/task_0")
    second(machine, f"{JOB}/step_0/user/task_0", "max", 10)
    assert available() == 4096 * 1024
    second(machine, JOB, 1000, 400)
    assert available() == 600
    second(machine, f"{JOB}/step_0", 500, 300)
    assert available() == 200
    second(machine, "system.slice", 5000, 4990)
    assert available() == 10
    second(machine, "system.slice/another", 1, 1)  # not this process's
    assert available() == 10


def test_inside_a_container_the_path_is_the_host_s(machine):
    machine("proc/self/cgroup", "0::/../../docker/abc")
    second(machine, "", 1000, 400)
    assert available() == 600


def test_pages_of_files_are_given_up_before_anything_fails(machine):
    machine("proc/self/cgroup", "0::/a")
    second(machine, "a", 1000, 990, cache=700)
    assert available() == 710


@pytest.mark.parametrize("controllers", ["memory", "cpu,memory"])
def test_groups_of_version_1_and_of_both(machine, controllers):
    machine("proc/self/cgroup", f"9:cpuset:/elsewhere\n4:{controllers}:/slurm/uid_0/job_7/step_0\n0::/b")
    for folder, limit in (("", 2**63 - 4096), ("/slurm/uid_0/job_7", 1000)):
        machine(f"cgroup/memory{folder}/memory.limit_in_bytes", limit)
        machine(f"cgroup/memory{folder}/memory.usage_in_bytes", 500)
        machine(f"cgroup/memory{folder}/memory.stat", "inactive_file 400\ntotal_inactive_file 50")
    assert available() == 550
    second(machine, "b", 300, 200, mount="cgroup/unified")
    assert available() == 100


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count(kind):
    code = (
        "import resource, sys; from discern.free_memory import available\n"
        f"resource.setrlimit(resource.{kind}, (300 * 2**20,) * 2)\n"
        "before = available(); taken = bytearray(100 * 2**20)\n"
        "import json; print(json.dumps([before, available()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert before < 300 * 2**20
    assert 99 * 2**20 < before - after < 102 * 2**20


def test_workers_that_fit(monkeypatch):
    monkeypatch.setattr(free_memory, "available", lambda: 100)
    assert affordable(30, 0, 2) == 2
    assert affordable(30, 0, 9) == 3
    assert affordable(30, 50, 9) == 1
    assert affordable(30, 90, 9) == 0
    monkeypatch.setattr(free_memory, "available", lambda: None)
    assert affordable(30, 90, 9) == 9


def test_running_out_inside_is_said_with_the_figure(monkeypatch):
    monkeypatch.setattr(free_memory, "available", lambda: GIB)
    with (
        pytest.raises(DiscernError, match=r"m on d: not enough memory for it: at least 3\.00 GiB needed"),
        figured("m on d", "it", 3 * GIB),
    ):
        raise MemoryError
    with pytest.raises(ZeroDivisionError), figured("m on d", "it", 3 * GIB):
        raise ZeroDivisionError
    with pytest.raises(DiscernError, match="another"), figured("m on d", "it", 3 * GIB):
        raise DiscernError("another")


def test_what_counts_as_running_out():
    assert out_of_memory(OSError(12, "Cannot allocate"))
    assert out_of_memory(ImportError("_C.so: failed to map segment from shared object"))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not out_of_memory(OSError(28, "No space left on device"))
