"""What makes two findings the same one on another day or another machine."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.lint.finding import Finding

_DIRECTORIES = re.compile(r"[^\s,;'\"()=]*/(?=[^/\s])")


def bare(text: str) -> str:
    """A path, or a sentence with paths in it, without directories: `/home/a/libx.so` becomes `libx.so`."""
    return _DIRECTORIES.sub("", text.replace("\\", "/").rstrip("/"))


def fingerprint(file: str, finding: Finding) -> str:
    """The identity of a finding: 32 hexadecimal digits over its rule, file name and subject.

    Directories do not count, so that the fingerprint is the same in `/home/someone/build` and on a CI
    machine; neither do severity, words and evidence, which change between releases and builds. Two findings
    that differ in nothing but directories share a fingerprint: whoever compares must count.
    """
    identity = "\0".join((finding.rule, bare(file), bare(finding.subject)))
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
