"""Checking the outputs: other runs of a model, files of expected values, and the comparison with them."""
