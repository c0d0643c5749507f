"""Which objects of a closure a finding is about, for the reports that draw the closure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.lint.finding import FileReport, Finding


class Nodes:
    """The objects of one file's closure by what findings call them.

    Args:
        file: the report of the file.
    """

    def __init__(self, file: FileReport) -> None:
        self._names: dict[str, str] = {}
        self._paths: dict[str, str] = {}
        for entry in file.closure:
            for name in (entry.path, entry.name):
                if name:
                    self._names.setdefault(name, entry.key)
            if entry.path:
                self._paths.setdefault(entry.path, entry.key)
                self._paths.setdefault(real(entry.path), entry.key)

    def of(self, finding: Finding) -> tuple[str, ...]:
        """The keys of the objects: the one that is the subject, else those that subject and evidence name.

        A finding about several objects has a subject of its own, such as `libc10`, and a line of evidence for
        each that begins with its path.
        """
        if finding.subject in self._names:
            return (self._names[finding.subject],)
        told = [self._paths.get(line.partition(": ")[0]) for line in finding.evidence]
        listed = [self._names.get(name) for name in finding.subject.split(" + ")]
        return tuple(dict.fromkeys(key for key in (*told, *listed) if key))


def real(path: str) -> str:
    """A path with symlinks followed, where it is one of this machine's."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # what no file can be called, such as a name with a null byte
        return path
