"""Features: extracted once per model and data set, reused by every analysis."""
