"""First import of every script: ``src/`` on the path, and numerical threads limited to ``--threads``.

Numerical libraries read their limits when they are imported, and two threads on two busy cores take
longer than one; so this comes before everything else.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

threads = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "1"
for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
    os.environ[f"{library}_NUM_THREADS"] = threads
