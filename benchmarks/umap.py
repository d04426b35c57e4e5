"""A grid of maps: umap-learn called per setting beside one shared neighbour search."""

import warnings

from threadpoolctl import threadpool_limits

from benchmarks.features import planted
from benchmarks.side_by_side import Table, ratio


def tables(quick: bool) -> list[Table]:
    """One row per size."""
    from discern.analysis.umap.embedding import embed_grid, load_umap
    from discern.config import UmapSettings

    settings = UmapSettings(n_neighbors=[15, 50], min_dist=[0.1, 0.5])
    umap = load_umap()
    rows = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n, d in [(400, 256)] if quick else [(400, 256), (2000, 256)]:
            x, y = planted(n, d, 5)

            def peer(x=x) -> None:
                for k in settings.n_neighbors:
                    for m in settings.min_dist:
                        options = {"metric": "cosine", "random_state": 0, "n_jobs": 1}
                        umap.UMAP(n_neighbors=k, min_dist=m, **options).fit(x)

            peer()  # compiles
            rows.append((n, d, ratio(peer, lambda x=x, y=y: embed_grid(x, y, settings))))
    heads = ("N", "d", "CPU of umap-learn per setting / ours")
    return [Table("A grid of 2 x 2 settings", "umap-learn in one warm process.", heads, rows)]
