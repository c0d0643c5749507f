"""A program and all the libraries that it needs in one directory that can be moved anywhere."""
