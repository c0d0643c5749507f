"""The output of pax-utils' `lddtree`: its tree, and its list with `-l`."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from torchlink.lint.text.listing import LDDTREE, LOADER, ListedLibrary, Listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


ROOT = re.compile(r"(?P<path>\S.*?) \(interpreter => (?P<interpreter>.+)\)")
ROW = re.compile(r"(?P<indent>(?: {4})+)(?P<name>\S.*?) => (?P<path>.+)")
ABSENT = ("None", "not found")
CYCLE = "!!! circular loop !!!"
SHARED = re.compile(r".*\.so(\.[\w.]+)?")


def is_tree(lines: Sequence[str]) -> bool:
    """Whether some line is the root of a tree."""
    return any(ROOT.fullmatch(line) for line in lines)


def is_list(lines: Sequence[str]) -> bool:
    """Whether these lines look like the output of `-l`: a name, then libraries."""
    names = [line for line in lines if line.strip()]
    plain = not any(line[0].isspace() or " => " in line or line.endswith(":") for line in names)
    return (
        plain
        and any(SHARED.fullmatch(line) for line in names[1:])
        and all(
            line.startswith("/") or SHARED.fullmatch(line) or LOADER.fullmatch(after)
            for line, after in itertools.pairwise((*names[1:], ""))
        )
    )


def parse_tree(lines: Sequence[str]) -> Iterator[Listing]:
    """Return one listing per tree; `-a` repeats libraries, and the lines that `-x` adds are skipped."""
    root: re.Match[str] | None = None
    libraries: list[ListedLibrary] = []
    above: list[str] = []  # the objects from the root down to the current line
    for line in lines:
        if match := ROOT.fullmatch(line):
            if root:
                yield tree(root, libraries)
            root, libraries, above = match, [], [match["path"]]
        elif root and (row := ROW.fullmatch(line)):
            if row["path"] == CYCLE:
                continue
            path = None if row["path"] in ABSENT else row["path"]
            del above[len(row["indent"]) // 4 :]
            libraries.append(ListedLibrary(row["name"], path, above[-1]))
            above.append(path or row["name"])
    if root:
        yield tree(root, libraries)


def tree(root: re.Match[str], libraries: Sequence[ListedLibrary]) -> Listing:
    """Return the listing of one tree."""
    interpreter = None if root["interpreter"] in ABSENT else root["interpreter"]
    return Listing(
        kind=LDDTREE,
        subject=root["path"],
        libraries=tuple(dict.fromkeys(libraries)),
        interpreter=interpreter,
        static=not libraries and interpreter is None,
        musl="ld-musl-" in (interpreter or ""),
    )


def parse_list(lines: Sequence[str]) -> Iterator[Listing]:
    """Return one listing per binary: a name before a loader's path begins the next one."""
    names = [line for line in lines if line.strip()]
    starts = [
        number
        for number in range(len(names) - 1)
        if number == 0 or (LOADER.fullmatch(names[number + 1]) and not SHARED.fullmatch(names[number]))
    ]
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        rest = names[start + 1 : end]
        interpreter = rest.pop(0) if rest and LOADER.fullmatch(rest[0]) else None
        yield Listing(
            kind=LDDTREE,
            subject=names[start],
            libraries=tuple(
                ListedLibrary(name.rpartition("/")[2], name if "/" in name else None) for name in rest
            ),
            interpreter=interpreter,
            musl="ld-musl-" in (interpreter or ""),
        )
