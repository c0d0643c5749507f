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


def quoted(word: str) -> str:
    r"""A word for a shell in a text for people, which `visible` leaves as it is.

    What does not print as itself is written as the bytes that it is, as bash, zsh and ksh read them: `$'d\xff'`.
    """
    import shlex

    if word.isprintable():
        return shlex.quote(word)
    parts = (
        f"\\{char}" if char in "\\'" else char if char.isprintable() else _bytes_of(char) for char in word
    )
    return f"$'{''.join(parts)}'"


def _bytes_of(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode(errors="surrogateescape"))


def shortened(text: str, most: int = 80) -> str:
    """The text, cut and ended by "…" where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def escape(char: str) -> str:
    """One character as an escape in ASCII."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
