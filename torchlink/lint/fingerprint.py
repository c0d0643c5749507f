"""What makes two findings the same one on another day or another machine."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.lint.finding import Finding

_DIRECTORIES = re.compile(r"[^\s,;'\"()=]*/(?=[^/\s])")

SEARCH_PATH_RULES = "rpath-"
SAME_TREE = 2  # components that two paths share at least which are in one project: /home/someone


def bare(text: str) -> str:
    """A path, or a sentence with paths in it, without directories: `/home/a/libx.so` becomes `libx.so`."""
    return _DIRECTORIES.sub("", text.replace("\\", "/").rstrip("/"))


def fingerprint(file: str, finding: Finding) -> str:
    """The identity of a finding: 32 hexadecimal digits over its rule, file name and subject.

    Where the file is does not count, so that the fingerprint is the same in `/home/someone/build` and on a CI
    machine; neither do severity, words and evidence, which change between releases and builds. Two findings
    that differ in nothing but directories share a fingerprint: whoever compares must count. A search path entry
    is what the directory is, so there it counts, as seen from the file.
    """
    identity = "\0".join((finding.rule, bare(file), subject_of(file, finding)))
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def subject_of(file: str, finding: Finding) -> str:
    """A finding's subject without what another machine would have elsewhere."""
    of_search_path = finding.rule.startswith(SEARCH_PATH_RULES)
    return beside(file, finding.subject) if of_search_path else bare(finding.subject)


def beside(file: str, directory: str) -> str:
    """A directory as seen from a file that is in the same tree; one that is elsewhere as it is."""
    here = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120 - what a text names may lie elsewhere
    if not directory.startswith("/"):
        return directory
    common = os.path.commonpath((here, directory))
    return os.path.relpath(directory, here) if common.count("/") >= SAME_TREE else directory
