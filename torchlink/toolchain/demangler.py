"""Demangling C++ names with binutils' `c++filt`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import ResourcesError, TorchlinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEMANGLER = "c++filt"
LONGEST = 4000  # characters of a name, mangled or not; longer ones are not readable
# A crafted name of 300 characters can demangle to terabytes.
SECONDS = 2
MEMORY = 64 << 20  # bytes


def demangled_names(names: Sequence[str]) -> dict[str, str]:
    """Return mangled name → demangled name, for those that the demangler can parse.

    Without a demangler, or if it does not finish in time, there are none.
    """
    from torchlink import process  # not needed for a report without C++ names

    tool = process.which(DEMANGLER) if names else None
    if tool is None:
        return {}
    try:
        text = process.filtered(
            [tool], "".join(f"{name}\n" for name in names), timeout=SECONDS, memory=MEMORY
        )
    except ResourcesError:
        raise
    except TorchlinkError:
        return {}
    lines = text.split("\n")[:-1]
    if len(lines) != len(names):
        return {}
    return {
        name: line for name, line in zip(names, lines, strict=True) if line != name and len(line) <= LONGEST
    }
