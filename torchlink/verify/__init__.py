"""Running the reference loader on a model and checking the outputs."""
