"""Binaries that are checked together: what a library lacks by itself, the one that brings it may find for it.

An RPATH (not a RUNPATH) serves everything that is loaded because of its owner. Where that owner is checked in the
same run, a library that relies on it is no defect of what is shipped.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torchlink.lint.finding import FileReport

NOT_FOUND = "library-not-found"


def together(reports: Iterable[FileReport], root: Path | None = None) -> tuple[FileReport, ...]:
    """The reports without what is only missing where a library is loaded by itself; that is said instead.

    Args:
        reports: of a whole run.
        root: the image or sysroot that paths of closures start from.
    """
    files = tuple(reports)
    if not any(each.rule == NOT_FOUND for file in files for each in file.findings):
        return files
    served: dict[str, dict[str, str]] = {}  # a library's real path -> what it needs -> who finds that for it
    for file in files:
        found = {
            entry.key: entry for entry in file.closure if entry.path and entry.found_via.startswith("RPATH ")
        }
        for entry in file.closure:
            names = {found[key].name: file.path for key in entry.needs if key in found}
            served.setdefault(real(entry.key, root), {}).update(names)
    return tuple(_without(file, served.get(os.path.realpath(file.path), {})) for file in files)


def real(path: str, root: Path | None) -> str:
    """The real path of an object that a closure names."""
    inside = f"{root}{path}"
    # What is checked may lie outside of the root, and then so does what its own search path leads to.
    below = root is not None and not path.startswith(f"{root}/") and os.path.lexists(inside)
    return os.path.realpath(inside if below else path)


def _without(file: FileReport, served: Mapping[str, str]) -> FileReport:
    """One report less the missing libraries that others find."""
    left, sentences = [], []
    for finding in file.findings:
        names = finding.subject.split(" + ")
        if finding.rule == NOT_FOUND and all(name in served for name in names):
            owners = ", ".join(dict.fromkeys(served[name] for name in names))
            sentences.append(
                f"{', '.join(names)}: not found where {file.path} is loaded by itself; {owners}, which brings it, has "
                "an RPATH that serves it."
            )
        else:
            left.append(finding)
    return file._replace(findings=tuple(left), not_checked=(*file.not_checked, *sentences))
