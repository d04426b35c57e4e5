"""Saliency by random masks: which images, masks, estimators, scores against marked regions."""
