"""Cutting a libtorch out of a wheel: a directory like upstream's zip, for machines without Python."""
