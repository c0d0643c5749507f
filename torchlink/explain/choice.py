"""Which fixes of a cause a log asks for, and in which order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, TypeVar

from torchlink.explain.expressions import Expression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.explain.causes import Cause


class AnyFix(Protocol):
    """A fix, before or after its placeholders were replaced."""

    @property
    def target(self) -> str:
        """Whom it is for."""

    @property
    def text(self) -> str:
        """What to do."""

    @property
    def command(self) -> str:
        """What to type."""


_F = TypeVar("_F", bound=AnyFix)
USUAL = {
    "c++",
    "cmake",
}  # whose fixes are shown of a log that shows no build system that a cause has fixes for
# These call the C++ compiler themselves: its command line is not the user's.
CALLING = {"nim", "rust", "go", "haskell", "dotnet"}
LATE = {"load", "import", "run"}
MAIN = ("pip", "python", "c++", "cmake")  # whose fix is shown of a cause that has otherwise only general ones
OF_PYTHON = Expression(r"^\s*(?:[a-z]\w*\.)*[A-Z]\w*(?:Error|Exception): ")
OF_PROGRAM = Expression(r"(?:^|\s)\./app(?=\s|$)")
OF_GLIBC = Expression(r"(?<!DY)LD_LIBRARY_PATH")
PRELOAD = Expression(r"LD_PRELOAD=(\S+)")
NAMED_LIBRARY = Expression(r"(/\S+\.so[.\d]*)(?=[:,)\s'\"]|$)")


def chosen(
    cause: Cause, fixes: Sequence[_F], contexts: set[str], texts: Sequence[str]
) -> tuple[list[_F], list[_F]]:
    """Return the fixes of a cause that a log asks for, its language's first, and the others.

    Args:
        cause: whose fixes they are.
        fixes: in the order of the cause's file.
        contexts: the build systems and languages that the log shows.
        texts: the lines of the log that carry the cause.
    """
    targets = {fix.target for fix in fixes}
    called = contexts & CALLING
    shown = {*contexts, "pip"} if "python" in contexts else set(contexts)
    if called:
        shown.discard("c++")
    first = shown & targets - USUAL - {"pip"}
    if not shown & targets and not called:
        shown = set(USUAL)
    if cause.stage in LATE:
        shown.add("pip" if "pip" in targets else "debian")
    if cause.id.startswith(("model-", "aoti-")):
        shown.add("python")
    if not called and not any(fix.command for fix in fixes if fix.target in shown):
        shown |= USUAL  # the log's own have no command to copy
    own = [fix for fix in fixes if fix.target in {*shown, "any"}]
    if all(fix.target == "any" for fix in own):
        usual = (each for each in MAIN if each in targets and not (called and each == "c++"))
        main = next(usual, "any")
        own = [fix for fix in fixes if fix.target in {main, "any"}] or list(fixes)
    if any(map(OF_PYTHON.search, texts)):  # the process is Python: no program of the user's is called ./app
        own = [fix for fix in own if not OF_PROGRAM.search(fix.command)] or own
    if "macos" in contexts:  # its loader does not read LD_LIBRARY_PATH
        own = [fix for fix in own if not OF_GLIBC.search(fix.command)] or own
    own.sort(key=lambda fix: fix.target not in first or fix.text.startswith("Or "))
    return own, [fix for fix in fixes if fix not in own]


def preloads_the_same(command: str, texts: Sequence[str]) -> bool:
    """Whether a fix preloads the very library that lines of a log complain about."""
    preloaded = PRELOAD.search(command)
    named = {_real(found[1]) for text in texts for found in NAMED_LIBRARY.finditer(text)}
    return preloaded is not None and _real(preloaded[1]) in named


def _real(path: str) -> str:
    """Return a file without links; /lib is /usr/lib on systems of today, also on one that is not this one."""
    return os.path.realpath(path).removeprefix("/usr")
