"""Running the reference loader on a model and checking what came out."""
