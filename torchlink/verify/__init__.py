"""Running the reference loader on a model and judging what came out."""
