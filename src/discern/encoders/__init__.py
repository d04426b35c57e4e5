"""Image encoders: preprocessing, weights and one module per loading route."""
