"""Parsers for what other tools print about a binary: text in, `Listing`s out."""
