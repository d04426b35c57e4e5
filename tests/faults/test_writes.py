"""Which files a run writes, seen by strace: the project's own and a short list of others."""

import os
import re
import shutil
import subprocess

import pytest

from tests.faults.study import SMALL, forget
from tests.survived import survived

pytestmark = pytest.mark.faults

CALLS = "openat,open,creat,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,symlink,symlinkat,link"
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
#: Below the project's folder.
OWN = ("results", "resources", ".snakemake", "src/discern/__pycache__", "workflow/scripts/__pycache__")


def written(trace, folder):
    """Every path that a call in a log of strace -y has changed; relative ones are in ``folder``."""
    found = set()
    for line in trace.read_text(errors="replace").splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)\) += +\d", line)
        if not call or (call[1].startswith("open") and not WRITING.search(call[2])):
            continue
        for place, name in re.findall(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)+)"', call[2]):
            found.add(os.path.normpath(os.path.join(folder, place, name)))
    return found


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_nothing_is_written_elsewhere(small, tmp_path):
    forget(small)
    home, temporary, trace = tmp_path / "home", tmp_path / "tmp", tmp_path / "trace"
    home.mkdir()
    temporary.mkdir()
    allowed = [
        *(small.path / name for name in OWN),
        (small.path / "resources/envs").resolve(),  # machine code and bytecode beside the environments
        (small.path / "resources/downloads").resolve(),
        temporary,  # $TMPDIR
        home / ".cache/snakemake",  # Snakemake's own copy of the rules while it runs
        "/dev", "/proc",
    ]  # fmt: skip
    unset = {"XDG_CACHE_HOME", "MPLCONFIGDIR", "HF_HOME", "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        ["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", trace,
         *small.command(study=SMALL)],
        cwd=small.path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if k not in unset}
        | {"HOME": str(home), "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    every = written(trace, small.path)
    assert any("scores.parquet" in name for name in every)
    elsewhere = {n for n in every if not any(n == str(a) or n.startswith(f"{a}/") for a in allowed)}
    elsewhere -= {str(parent) for place in (small.path / "x", home / ".cache/x") for parent in place.parents}
    assert not {n for n in elsewhere if "/__pycache__" not in n}  # bytecode beside Snakemake itself
    survived("writes outside the project (strace)", f"{len(every)} paths", tried=1, losses=0)
