"""Command lines that install what is missing (pip, conda, Debian), and the sentences that name them."""
