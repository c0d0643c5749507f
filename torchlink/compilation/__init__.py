"""Compiling the reference loader, with a cache."""
