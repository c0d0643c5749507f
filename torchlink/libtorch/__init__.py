"""Where libtorchs are, which one is taken and why, and what each one is, read from its files."""
