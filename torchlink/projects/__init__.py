"""Small projects for a user to start from and keep: their files, made from a plan, and writing them."""
