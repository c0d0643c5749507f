"""Text from outside, made safe to show: file names, versions, symbols and messages come from strangers' files."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""The text on one line, with every character that does not print as itself as an escape.

    Control characters (a terminal would obey them), line ends, marks that turn the direction of writing and
    bytes that are not UTF-8 (PEP 383) become `\x1b`, `\n`, `\u202e`, `\xff`.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)


def shortened(text: str, most: int = 80) -> str:
    """The text, cut and ended by "…" where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def escape(char: str) -> str:
    """One character as an escape in ASCII."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
