"""Compiling with a cache that can be deleted, copied, shared or killed half-way."""
