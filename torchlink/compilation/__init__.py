"""Compiling, with a cache: the loader, and programs that it was asked for."""
