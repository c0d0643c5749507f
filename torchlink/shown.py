"""Escaping untrusted text before it is printed: file names, versions, symbols and messages from inspected files."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return the text on one line, with every unprintable character escaped.

    Control characters (which a terminal would obey), line ends, marks that change the writing direction and bytes that
    are not UTF-8 (PEP 383) become `\x1b`, `\n`, `\u202e`, `\xff`.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)


def quoted(word: str) -> str:
    r"""Quote an argument for a shell in text for people, such that `visible` leaves it unchanged.

    Unprintable characters are written as their bytes, in the syntax of bash, zsh and ksh: `$'d\xff'`.
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
    """Return the text, truncated with "…" where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def escape(char: str) -> str:
    """Return one character as an ASCII escape."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
