"""Static libraries that a program links whole, named by the user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.bounds import first_bytes
from torchlink.errors import FileError
from torchlink.paths import working_directory
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Iterable

# How one begins: an archive, a thin one, one of Apple's for several machines, and a linker script in place of one.
BEGINNINGS = (b"!<arch>\n", b"!<thin>\n", b"\xca\xfe\xba\xbe", b"/* GNU ld script")
HINT = "Give the path of one, such as build/libops.a."


def static_libraries(files: Iterable[Path]) -> tuple[Path, ...]:
    """Return the absolute paths of static libraries.

    Raises:
        FileError: there is no such file, or it is something else, such as a shared library.
    """
    return tuple(dict.fromkeys(map(_static_library, files)))


def _static_library(file: Path) -> Path:
    try:
        beginning = first_bytes(file, max(map(len, BEGINNINGS)))
    except OSError as error:
        not_about_the_file(file, error)
        raise FileError(f"no such static library: {file}", hint=HINT) from error
    if not beginning.startswith(BEGINNINGS):
        shared = ": a shared library is always loaded whole" if beginning.startswith(b"\x7fELF") else ""
        raise FileError(f"{file}: not a static library{shared}.", hint=HINT)
    return Path(working_directory(), file)
