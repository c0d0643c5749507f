"""Small projects that are written for a person to keep: their files from a plan, and the writing of them."""
