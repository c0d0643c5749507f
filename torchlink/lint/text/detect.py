"""Which tool printed a text."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from torchlink.errors import MalformedFileError
from torchlink.lint.text import ldd, lddtree, readelf

if TYPE_CHECKING:
    from torchlink.lint.text.listing import Listing


STREAM = "-"  # what the command line calls standard input
HINT = "Pipe it in whole: `ldd -r ./app 2>&1 | torchlink lint -`; or name the file itself: `torchlink lint ./app`."
LARGEST_TEXT = 64 << 20  # bytes; ldd on all of a large machine's programs writes some 10 MiB
WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # what PowerShell's > writes


def named(label: str) -> str:
    """How messages call a text."""
    return "Standard input" if label == STREAM else label


def decode(data: bytes, label: str) -> str:
    """A text's bytes as text: UTF-8 or what PowerShell writes; other bytes survive as surrogates.

    Raises:
        MalformedFileError: it is larger than any such text.
    """
    if len(data) > LARGEST_TEXT:
        raise MalformedFileError(f"{named(label)} is too large for a text of ldd.", hint=HINT)
    encoding = WIDE.get(data[:2])
    if encoding:
        return data.decode(encoding, "replace")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def listings(text: str, label: str) -> list[Listing]:
    """What a text tells, one listing a binary.

    Args:
        text: what `ldd`, `lddtree` or `readelf -d` printed; line ends may be Windows's.
        label: how messages call it.

    Raises:
        MalformedFileError: it is empty, or no tool's output that is known here.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if not text.strip():
        raise MalformedFileError(f"{named(label)} is empty: there is no text to check.", hint=HINT)
    if readelf.is_dynamic(lines):
        found = list(readelf.parse(lines))
    elif lddtree.is_tree(lines):
        found = list(lddtree.parse_tree(lines))
    elif lddtree.is_list(lines):
        found = list(lddtree.parse_list(lines))
    else:
        found = list(ldd.parse(lines))
    if not found:
        raise MalformedFileError(
            f"{named(label)} holds no output of ldd, lddtree or readelf -d that torchlink knows.", hint=HINT
        )
    return found
