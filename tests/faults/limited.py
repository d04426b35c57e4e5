"""Run a workflow script under a real limit of memory: ``python limited.py MIB SCRIPT ARGUMENTS``.

The limit counts from what the process has taken once the libraries are imported, which differs by machine;
0: none.
"""

import resource
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    room, script = int(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(script).parent))
    import bootstrap  # noqa: F401

    for module in ("discern.analysis.svm.fitting", "discern.analysis.umap.embedding"):
        __import__(module)
    if "embed_umap" in script:
        from discern.analysis.umap.compiled import load_umap

        load_umap()
    from discern.free_memory import PROC, field

    if room:
        limit = field(PROC / "self/status", "VmData") + room * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    runpy.run_path(script, run_name="__main__")
