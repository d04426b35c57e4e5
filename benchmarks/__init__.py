"""Side-by-side measurements: both sides in one process, on the same inputs, in turn."""
