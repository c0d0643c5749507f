"""Globs over rule ids and subjects."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def matching(rule: str, patterns: Iterable[str]) -> bool:
    """Whether a rule id is one of the patterns (ids or globs such as `rpath-*`)."""
    return any(fnmatchcase(rule, pattern) for pattern in patterns)


def covers(pattern: str, subject: str) -> bool:
    """Whether a glob covers a subject; one without a slash is tried on the subject's last component too."""
    if fnmatchcase(subject, pattern):
        return True
    return "/" not in pattern and fnmatchcase(subject.rstrip("/").rpartition("/")[2], pattern)
