"""Scores of the other estimators, and why one of them moves a cell."""

import numpy as np
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from benchmarks.side_by_side import Table
from benchmarks.svm_cases import Case, case, demo_cases

PEERS = {"LinearSVC, defaults": {"solver": "liblinear"}, "hinge_ovo (SVC)": {"estimator": "hinge_ovo"}}
Named = dict[str, Case]


def parts(part: Case) -> tuple[slice, slice]:
    """For training and for choosing t."""
    cut = len(part.labels) * 3 // 4
    return slice(cut), slice(cut, None)


def scores(part: Case, ts: tuple[float, ...] = (1, 10, 100), **options) -> tuple[float, float]:
    """Hold-out accuracy and macro F1 of the t with the best validation score."""
    from discern.analysis import metrics
    from discern.analysis.linear import predicted_labels
    from discern.analysis.svm.fold import Part, best, fit_fold
    from discern.config import SvmSettings

    settings = SvmSettings(t=list(ts), **options)
    train, validation = (Part(part.features[rows], part.labels[rows]) for rows in parts(part))
    names = tuple(map(str, range(part.k)))
    chosen = best(fit_fold(train, validation, names, settings), settings)
    predicted = predicted_labels(chosen.classifier.decision(part.other_features))
    counts = metrics.count(part.other_labels, predicted, part.k)
    return float(metrics.accuracy(counts)), float(metrics.macro_f1(counts))


def estimator_rows(group: str, cells: Named) -> tuple[list[tuple[str, ...]], str]:
    """A row per peer; the cell whose accuracy the last peer moves most."""
    base = np.array([scores(part) for part in cells.values()])
    rows, most = [], ""
    for peer, options in PEERS.items():
        change = 100 * (np.array([scores(part, **options) for part in cells.values()]) - base)
        most = list(cells)[np.abs(change[:, 0]).argmax()]
        cell = most if change.any() else "-"
        rows.append(
            (group, peer, *(f"{c.mean():+.2f} (at most {np.abs(c).max():.2f})" for c in change.T), cell)
        )
    return rows, most


def scheme_rows(part: Case) -> list[tuple[str, ...]]:
    """Hold-out accuracy of both losses in both schemes, t = 1, and of ours with a smaller t."""
    rows = parts(part)[0]
    features, labels = part.features[rows].astype(np.float64), part.labels[rows]
    C = features.shape[1] / len(features)
    squared = LinearSVC(C=C, tol=1e-6, max_iter=10**6, dual=True, random_state=0)
    hinge = SVC(kernel="linear", C=C, break_ties=True)
    peers = {
        "squared hinge, one against the rest: LinearSVC run to the end": squared,
        "hinge, one against the rest: SVC": OneVsRestClassifier(hinge),
        "squared hinge, one against one: LinearSVC run to the end": OneVsOneClassifier(squared),
        "hinge, one against one: SVC": hinge,
    }
    found = [
        ("squared_hinge_ovr", scores(part, (1,))[0]),
        ("hinge_ovo", scores(part, (1,), estimator="hinge_ovo")[0]),
    ]
    found += [("squared_hinge_ovr, t = 0.0001", scores(part, (1e-4,))[0])]
    for name, peer in peers.items():
        model = make_pipeline(StandardScaler(), peer).fit(features, labels)
        found.append((name, float(model.score(part.other_features.astype(np.float64), part.other_labels))))
    return [(name, f"{100 * accuracy:.1f}") for name, accuracy in found]


def score_tables(quick: bool) -> list[Table]:
    """Differences of scores between the estimators; the cell that moves most."""
    groups: dict[str, Named] = {
        "planted, N < d": {"780 x 768": case(780, 768, 3, 0.3), "1200 x 1024": case(1200, 1024, 5, 0.2)},
        "planted, N > d": {"2000 x 64": case(2000, 64, 4, 0.4), "3000 x 128": case(3000, 128, 2, 0.1)},
    }
    demo = {f"{dataset}, {model}": part for dataset, model, part in demo_cases()}
    if demo:
        groups[f"features of the demo ({len(demo)} cells)"] = demo
    rows, most, cells = [], "", {}
    for group, cells in list(groups.items())[: 1 if quick else None]:
        more, most = estimator_rows(group, cells)
        rows += more
    about = (
        "Hold-out scores in points, minus those of the default (`squared_hinge_ovr`, `newton`): mean over "
        "the cells and the largest difference of one, with the cell whose accuracy differs most. t of 1, 10, "
        "100, chosen on a validation part."
    )
    heads = ("features", "estimator", "accuracy", "macro F1", "cell")
    tables = [Table("Scores of other estimators", about, heads, rows)]
    if demo and not quick:
        about = f"Hold-out accuracy in percent at t = 1 of {most}: ours, and scikit-learn's own pipelines."
        tables.append(
            Table("Why that cell moves", about, ("estimator", "accuracy"), scheme_rows(cells[most]))
        )
    return tables
