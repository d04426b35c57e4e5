"""umap-learn, and our own numba functions, with their machine code kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

#: Modules of this package with numba functions, and what these are built from.
COMPILED = ("candidates.py", "fused.py", "lanes.py", "selection.py")


def keep_compiled() -> None:
    """Tell numba, before its first import, to keep machine code beside the environment.

    In a folder named after the text of our compiled modules: numba itself sees a change only of the very
    file that holds a function. Where the environment cannot be written, numba chooses.
    """
    if os.access(sys.prefix, os.W_OK):
        digest = hashlib.sha256()
        for name in COMPILED:
            digest.update((Path(__file__).parent / name).read_bytes())
        folder = Path(sys.prefix) / "numba-cache" / digest.hexdigest()[:12]
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))


def load_umap() -> Any:
    """Import umap-learn; three functions that it compiles anew in every process are kept on disk too.

    The layout is compiled so that threads can run it at the same time (no lock of the interpreter).
    """
    keep_compiled()
    import umap
    import umap.layouts
    import umap.umap_

    for module, name, options in (
        (umap.umap_, "smooth_knn_dist", {}),
        (umap.umap_, "compute_membership_strengths", {}),
        (umap.layouts, "_nb_optimize_layout_euclidean_single_epoch", {"nogil": True}),
    ):
        function = getattr(module, name, None)
        # Another version may lack the function, and numba refuses a cache without a writable folder.
        with contextlib.suppress(RuntimeError):
            if function is not None and not function.signatures:  # else it is compiled already
                function.targetoptions.update(options)
                function.enable_caching()
    return umap
