"""The output of binutils' and LLVM's `readelf -d`: the dynamic section of a binary.

Its prose may be translated; the names of the tags and the brackets around values are not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.binary.elf_dynamic import DF_1_NODEFLIB, DF_1_PIE, DF_SYMBOLIC, DF_TEXTREL, EMPTY, Dynamic
from torchlink.lint.text.listing import READELF, ListedLibrary, Listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


ROW = re.compile(r"\s*0x[0-9a-fA-F]+\s+\((?P<tag>[A-Z][A-Z0-9_]*)\)\s*(?P<value>.*)")
BRACKETS = re.compile(r"[^\[]*\[(?P<text>.*)\]\s*")
# "File: app" in any language, before each of several files.
FILE = re.compile(r"(?!(?:\S*-)?readelf:)[^\s:：]+(?: [^\s:：]+)?[:：]\s*(?P<path>\S.*)")  # noqa: RUF001 - Chinese colons
NONE = re.compile(r"There is no dynamic section in this file\.?")
FLAGS = {"TEXTREL": DF_TEXTREL, "SYMBOLIC": DF_SYMBOLIC}
FLAGS_1 = {"NODEFLIB": DF_1_NODEFLIB, "PIE": DF_1_PIE}


def is_dynamic(lines: Sequence[str]) -> bool:
    """Whether some line is an entry of a dynamic section, or states that there is none."""
    return any(ROW.fullmatch(line) or NONE.fullmatch(line.strip()) for line in lines)


def parse(lines: Sequence[str]) -> Iterator[Listing]:
    """Return one listing per file."""
    subject: str | None = None
    rows: list[tuple[str, str]] = []
    empty = False
    for line in lines:
        if file := FILE.fullmatch(line):
            if rows or empty or subject:
                yield listing(subject, rows)
            subject, rows, empty = file["path"], [], False
        elif NONE.fullmatch(line.strip()):
            empty = True
        elif row := ROW.fullmatch(line):
            rows.append((row["tag"], row["value"].strip()))
    if rows or empty or subject:
        yield listing(subject, rows)


def listing(subject: str | None, rows: Sequence[tuple[str, str]]) -> Listing:
    """Return the listing for the rows of one dynamic section."""
    dynamic = dynamic_section(rows) if rows else EMPTY
    return Listing(
        kind=READELF,
        subject=subject,
        libraries=tuple(ListedLibrary(name, name) for name in dict.fromkeys(dynamic.needed)),
        dynamic=dynamic,
        static=not rows,
    )


def dynamic_section(rows: Sequence[tuple[str, str]]) -> Dynamic:
    """Build the dynamic section that rows of (tag, value) describe."""
    texts: dict[str, list[str]] = {}
    words: dict[str, set[str]] = {}
    for tag, value in rows:
        if bracketed := BRACKETS.fullmatch(value):
            texts.setdefault(tag, []).append(bracketed["text"])
        words.setdefault(tag, set()).update(value.replace(",", " ").split())
    flags = sum(bit for name, bit in FLAGS.items() if name in words.get("FLAGS", ()))
    return Dynamic(
        present=True,
        soname=last(texts.get("SONAME")),
        needed=tuple(texts.get("NEEDED", ())),
        rpath=last(texts.get("RPATH")),
        runpath=last(texts.get("RUNPATH")),
        auxiliary=tuple(texts.get("AUXILIARY", ())),
        filter=tuple(texts.get("FILTER", ())),
        flags=flags,
        flags_1=sum(bit for name, bit in FLAGS_1.items() if name in words.get("FLAGS_1", ())),
        textrel="TEXTREL" in words or bool(flags & DF_TEXTREL),
        tags={},
    )


def last(values: Sequence[str] | None) -> str | None:
    """Return the last entry, which the loader uses if a tag that should be unique is repeated."""
    return values[-1] if values else None
