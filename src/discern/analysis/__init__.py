"""Analyses of a cell (model x data set): linear SVM, feature maps, comparisons, saliency."""
