"""The directories of an object's RPATH or RUNPATH, as its loader sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.tokens import expand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext


def directories_of(each: LoadedObject, context: LintContext) -> Iterator[tuple[str, str, Path]]:
    """Each entry that the loader heeds, where it sees that directory, and where that is on this machine.

    With a RUNPATH the RPATH is not heeded.
    """
    dynamic = each.elf.dynamic
    text = dynamic.runpath if dynamic.runpath is not None else dynamic.rpath
    for entry in dict.fromkeys(text.split(":")) if text else ():
        directory = expand(entry, each.origin, context.system)
        if directory is None:  # a token that means nothing on this machine: the loader throws it away
            continue
        host = context.on_host(directory, each) if directory.startswith("/") else Path(directory)
        yield entry, directory, host
