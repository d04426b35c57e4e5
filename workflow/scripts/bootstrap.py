"""First import of every script: ``src/`` on the path, ``--threads``, no network, caches in the project.

Numerical libraries read their limits when they are imported, and two threads on two busy cores take
longer than one; so this comes before everything else. Only the fetching scripts may ask a hub: a job
that would silently download something fails instead.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

threads = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "1"
for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
    os.environ[f"{library}_NUM_THREADS"] = threads

script = Path(sys.argv[0]).stem
if not script.startswith("fetch_"):
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
if not script.startswith("fetch_") and script != "build_environment":
    # What libraries would keep in the home folder (fonts, compiled code) stays in the project.
    os.environ.setdefault("XDG_CACHE_HOME", os.path.abspath("resources/cache"))
    os.environ.setdefault("MPLCONFIGDIR", os.path.abspath("resources/cache/matplotlib"))
    os.environ.setdefault("HF_HOME", os.path.abspath("resources/cache/huggingface"))
