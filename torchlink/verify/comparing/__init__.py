"""Whether the numbers are right: other runs of a model, files of expected values, and the comparison with them."""
