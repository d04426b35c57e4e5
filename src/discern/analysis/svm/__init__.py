"""Linear SVMs: solvers, the fits of a fold, the scores of a cell."""
