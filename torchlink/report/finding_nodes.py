"""Map findings to the objects of a closure, for the reports that draw it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.lint.finding import FileReport, Finding


class Nodes:
    """The objects of one file's closure, by the names that findings use for them.

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
        """Return the keys of the objects that a finding is about: its subject, else all that subject and evidence name.

        A finding about several objects has a general subject, such as `libc10`, and a line of evidence for
        each object that begins with its path.
        """
        if finding.subject in self._names:
            return (self._names[finding.subject],)
        in_evidence = [self._paths.get(line.partition(": ")[0]) for line in finding.evidence]
        in_subject = [self._names.get(name) for name in finding.subject.split(" + ")]
        return tuple(dict.fromkeys(key for key in (*in_evidence, *in_subject) if key))


def real(path: str) -> str:
    """Resolve the symlinks in a path; return it unchanged if it cannot be a path of this machine."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # for example a null byte in the name
        return path
