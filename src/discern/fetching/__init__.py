"""Fetched files: packages, direct addresses and the hub, each byte checked before anything reads it."""
