"""Verifying models in the processes of an executor, here or on other machines (docs/executors.md)."""
