"""Causes and fixes behind the error texts of compilers, linkers and loaders."""
