"""Headers that a log says are missing, looked up in a libtorch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from torchlink.explain.expressions import Expression

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

# A header in a directory of libtorch's, where a compiler says that it is not there.
_NAME = r"(?:torch|ATen|c10|caffe2|THC?|THCUNN|THNN|THS|THD|THPP)[/\\][\w/\\.+-]*\w"
MISSING = Expression(
    rf"(?:error: |C1083: .{{0,60}}?|cannot open source file |:\d+: |\(\d+\): |^)\W{{0,3}}({_NAME})"
    r"(?=\W{0,4}(?:[Nn]o such|(?:file )?not found)|\W?\s*$)"
    rf"|[Cc]annot open (?:include|source) file\W{{1,4}}({_NAME})"
)
# A file of libtorch that includes it: such a one is of another libtorch than what it includes.
INSIDE = Expression(r"[/\\](?:ATen|c10|torch|caffe2)[/\\][\w/\\.+-]*\.\w+(?::\d+|\(\d+)")
CAUSES = frozenset({"headers-not-found", "api-include-missing", "api-removed"})


class Headers(NamedTuple):
    """The missing headers of some lines, by whether a libtorch has them."""

    here: tuple[str, ...]
    absent: tuple[str, ...]


def look_up_headers(texts: Sequence[str], libtorch: Libtorch) -> Headers:
    """Look the headers that lines miss up in a libtorch; none of its headers here: nothing is known of them."""
    places = [
        place
        for place in libtorch.include_dirs
        if os.path.isdir(place / "torch") or os.path.isdir(place / "ATen")  # noqa: PTH112 - hides errors
    ]
    if not places or not any(os.path.isdir(place / "c10") for place in places):  # noqa: PTH112
        return Headers((), ())
    names = dict.fromkeys(
        (found[1] or found[2]).replace("\\", "/")
        for text in texts
        if not INSIDE.search(text)
        for found in MISSING.finditer(text)
    )
    here = [name for name in names if any(_is_in(place, name) for place in places)]
    return Headers(tuple(here), tuple(name for name in names if name not in here))


def _is_in(place: Path, name: str) -> bool:
    return os.path.isfile(place / name)  # noqa: PTH113 - Path.is_file hides errors
