"""Finding libtorchs, choosing one, and reading what each one is from its files."""
