"""Input that somebody damaged or wrote to do harm: it is refused in words, or read as what it is."""
