"""Thin typer commands, one module a command; they import what they need when they run."""
