"""The exact solver with scikit-learn's interface, for direct use in place of LinearSVC."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from discern.analysis.svm.path import solve_path
from discern.analysis.svm.squared_hinge import GAP_LIMIT


class SquaredHingeSVC(ClassifierMixin, BaseEstimator):
    """LinearSVC's problem (squared hinge, L2, one against the rest, penalised intercept), solved exactly.

    C: cost of the slacks; tol: relative duality gap at which a problem ends; max_iter: Newton steps.

    Fitted: classes_; coef_ (k, d) and intercept_ (k,), one row for two classes (positive: classes_[1]);
    n_iter_ and relative_gap_, the largest over the problems. Warns if relative_gap_ stays above 1e-4.
    Deterministic: there is no random state.
    """

    def __init__(self, C: float = 1.0, tol: float = 1e-9, max_iter: int = 200) -> None:
        self.C = C
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any) -> SquaredHingeSVC:
        """X (n_samples, n_features), y (n_samples,) of at least two classes; any scale, not standardised."""
        if not self.C > 0:
            raise ValueError(f"C = {self.C!r}: must be positive")
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        k = len(self.classes_)
        if k < 2:
            raise ValueError("y holds one class; at least two are needed")
        positives = np.array([1]) if k == 2 else np.arange(k)
        targets = np.where(labels == positives[:, None], 1.0, -1.0)
        rows = np.column_stack([X, np.ones(len(X))])
        path = solve_path(rows, targets, [self.C], tolerance=self.tol, max_iter=self.max_iter)
        self.coef_, self.intercept_ = path.v[0, :, :-1], path.v[0, :, -1]
        self.n_iter_, self.relative_gap_ = int(path.n_iter.max()), float(path.relative_gap.max())
        if self.relative_gap_ > GAP_LIMIT:
            text = f"relative gap {self.relative_gap_:.1e} after {self.n_iter_} steps; raise max_iter"
            warnings.warn(text, ConvergenceWarning, stacklevel=2)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """(n_samples,) for two classes, else (n_samples, k)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        values = X @ self.coef_.T + self.intercept_
        return values.ravel() if len(self.classes_) == 2 else values

    def predict(self, X: Any) -> np.ndarray:
        """Classes (n_samples,)."""
        values = self.decision_function(X)
        return self.classes_[(values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)]
