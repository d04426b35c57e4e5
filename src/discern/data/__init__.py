"""Data sets: fetching, recipes, decoding, manifests, splits."""
