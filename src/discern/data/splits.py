"""Hold-out and folds: made once per data set and protocol, so that all models are compared in pairs.

``image`` is the paper's protocol (section 'Experimental setup'): a stratified 20 % hold-out of the
pool, stratified 5-fold cross-validation on the rest. ``group`` does the same with whole patients,
lesions, slides or slabs. Labels of the hold-out are used for nothing but stratification. With
``duplicates: together`` clusters of near-duplicates are kept on one side as well.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from discern.config import Protocol, SplitSettings
from discern.contracts import MANIFEST, SPLITS, read_table, write_table
from discern.errors import DiscernError, problem

log = logging.getLogger("discern")

TEST = -1  # the "fold" of hold-out images


def split_dataset(manifest: Path, protocol: Protocol, settings: SplitSettings, out: Path) -> None:
    """Write the splits of a manifest; equal for equal images, labels, groups and seed in any row order.

    The metadata tell how many groups, and clusters of near-duplicates, are in the hold-out and in the
    training part too (``straddling_groups``, ``straddling_clusters``), and how many hold-out images that
    concerns; null where no group is known.

    Raises DiscernError if a class cannot be in every training part, naming the class.
    """
    table, metadata = read_table(MANIFEST, manifest)
    table = table.sort_by("image_id")
    image_ids = table["image_id"].to_pylist()
    labels = table["label"].to_numpy()
    where = f"{manifest}, protocol '{protocol}'"
    groups = _named(image_ids, table["group"].to_pylist())
    clusters = _named(image_ids, table["cluster"].to_pylist())
    if protocol == "group" and len(groups) == len(set(groups)):
        raise problem(where, "no two images share a group", repair="use the protocol 'image'")
    units = _units(groups if protocol == "group" else None, clusters, settings)
    folds = assign(labels, units, settings, metadata["classes"], where)
    missing = [metadata["classes"][c] for c in sorted(set(labels) - set(labels[folds == TEST]))]
    if missing:
        log.warning("%s: the hold-out has no image of %s", where, ", ".join(missing))
    write_table(
        SPLITS,
        out,
        {
            "image_id": image_ids,
            "role": ["test" if f == TEST else "train" for f in folds],
            "fold": [None if f == TEST else int(f) for f in folds],
        },
        {
            "dataset": metadata["dataset"],
            "protocol": protocol,
            "holdout": settings.holdout,
            "folds": settings.folds,
            "seed": settings.seed,
            "n_test": int((folds == TEST).sum()),
            "group_key": metadata["group_key"] if protocol == "group" else None,
            "n_groups": len(set(groups)) if protocol == "group" else None,
            "duplicates": settings.duplicates,
            "missing_from_test": missing,
            **_straddling("groups", groups, folds == TEST, known=table["group"].null_count < len(groups)),
            **_straddling("clusters", clusters, folds == TEST),
        },
    )


def _named(image_ids: list[str], names: list[str | None]) -> np.ndarray:
    """Group or cluster of each image; an image without one is one of its own."""
    # A group's name cannot hold a line end, so an image id can never meet one.
    return np.array([f"{i}\n" if g is None else g for i, g in zip(image_ids, names, strict=True)])


def _units(groups: np.ndarray | None, clusters: np.ndarray, settings: SplitSettings) -> np.ndarray | None:
    """What must stay on one side, a name for each image; None if every image may go alone."""
    if settings.duplicates == "ignore" or len(set(clusters)) == len(clusters):
        return groups
    return clusters if groups is None else _connected(groups, clusters)


def _connected(groups: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Images with a common group or a common cluster, and those connected through others, share a name.

    The name is the smallest of their groups, so that it does not depend on the order of the images.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    names, of_group = np.unique(groups, return_inverse=True)
    found, of_cluster = np.unique(clusters, return_inverse=True)
    n = len(names) + len(found)
    graph = coo_matrix((np.ones(len(groups)), (of_group, len(names) + of_cluster)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1][: len(names)]
    first = np.full(labels.max() + 1, len(names))
    np.minimum.at(first, labels, np.arange(len(names)))  # names are sorted
    return names[first[labels]][of_group]


def _straddling(what: str, names: np.ndarray, test: np.ndarray, known: bool = True) -> dict[str, int | None]:
    """How many groups or clusters are in both parts, and how many hold-out images they have there."""
    both = np.intersect1d(names[test], names[~test])
    return {
        f"straddling_{what}": len(both) if known else None,
        f"test_images_in_straddling_{what}": int(np.isin(names[test], both).sum()) if known else None,
    }


def assign(
    labels: np.ndarray, groups: np.ndarray | None, settings: SplitSettings, classes: list[str], where: str
) -> np.ndarray:
    """Validation fold of each image, TEST for the hold-out: int (N,).

    ``labels`` int (N,), ``groups`` str (N,) or None. The result depends on row order: sort first.
    """
    _check_classes(labels, groups, settings.folds, classes, where)
    folds = np.full(len(labels), TEST)
    try:
        train = _hold_out(labels, groups, settings)
        for fold, validation in enumerate(_folds(labels[train], _part(groups, train), settings)):
            folds[train[validation]] = fold
    except ValueError as error:  # scikit-learn's own words for too few members
        raise problem(where, f"cannot be split ({error})", repair="use fewer folds") from error
    _check_parts(labels, groups, folds, settings.folds, classes, where)
    return folds


def _part(groups: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if groups is None else groups[rows]


def _hold_out(labels: np.ndarray, groups: np.ndarray | None, settings: SplitSettings) -> np.ndarray:
    """Rows of the part that is not held out, ascending."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

    if groups is None:
        shuffle = StratifiedShuffleSplit(1, test_size=settings.holdout, random_state=settings.seed)
        return np.sort(next(shuffle.split(labels, labels))[0])
    n = max(2, round(1 / settings.holdout))
    whole = StratifiedGroupKFold(n, shuffle=True, random_state=settings.seed)
    return np.sort(next(whole.split(labels, labels, groups))[0])


def _folds(labels: np.ndarray, groups: np.ndarray | None, settings: SplitSettings) -> Iterator[np.ndarray]:
    """Rows of each validation part."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(settings.folds, shuffle=True, random_state=settings.seed)
    return (validation for _, validation in splitter.split(labels, labels, groups))


def _check_classes(
    labels: np.ndarray, groups: np.ndarray | None, folds: int, classes: list[str], where: str
) -> None:
    unit = "images" if groups is None else "groups"
    if groups is not None and (n := len(set(groups))) < folds + 1:
        raise problem(
            where, f"{n} groups, the hold-out and {folds} folds need {folds + 1}", repair="use fewer folds"
        )
    for label, name in enumerate(classes):
        mine = labels == label
        n = int(mine.sum()) if groups is None else len(set(groups[mine]))
        # Two groups suffice only if the hold-out takes none; _check_parts decides on the outcome.
        if n < (folds + 1 if groups is None else 2):
            raise problem(
                where,
                f"class '{name}' has {n} {unit}, too few for a hold-out and {folds} folds",
                repair="use fewer folds, or leave the class out of the card",
            )


def _check_parts(
    labels: np.ndarray,
    groups: np.ndarray | None,
    folds: np.ndarray,
    n_folds: int,
    classes: list[str],
    where: str,
) -> None:
    """Raise if a group straddles, a part is empty, or a training part lacks a class."""
    if groups is not None:
        pairs = {(str(g), int(f)) for g, f in zip(groups, folds, strict=True)}
        if len(pairs) != len(set(groups)):
            raise DiscernError(f"{where}: a group is in two parts")
    for part in (TEST, *range(n_folds)):
        if not (folds == part).any():
            name = "the hold-out" if part == TEST else f"fold {part}"
            raise problem(where, f"{name} is empty: too few groups", repair="use fewer folds")
    for fold in range(n_folds):
        training = labels[(folds != TEST) & (folds != fold)]
        for label in sorted(set(range(len(classes))) - set(training.tolist())):
            mine = labels == label
            have = f"{int(mine.sum())} images"
            if groups is not None:
                have += f" in {len(set(groups[mine]))} groups"
            raise problem(
                where,
                f"class '{classes[label]}' ({have}) is missing from the training part of fold {fold}",
                repair="use another seed, fewer folds, or the protocol 'image'",
            )
