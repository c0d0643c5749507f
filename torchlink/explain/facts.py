"""What is here: the libtorch that `torchlink find` takes or the log names, a compiler, CMake, an interpreter.

Everything is read when it is first asked for, and nothing that is missing is an error.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.explain.checks import Examiner
from torchlink.explain.expressions import Expression
from torchlink.explain.placeholders import placeholder_values
from torchlink.explain.recognised import CONTEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torchlink.explain.lines import Line
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.types import Compiler, Tool

_T = TypeVar("_T")
# An absolute path in a log: after a blank, a quote, a bracket, `=`, `:` or a flag such as -L.
PATH = Expression(
    r"(?:^|[\s'\"`\u2018\u201c(\[=:,;>]|-[ILFB]|-isystem)(/[^\s'\"`\u2019\u201d:;,()<>\[\]|&*]+)"
)
OF_TORCH = Expression(r"(?i)(?:^|/)lib(?:torch|c10)\w*\.(?:so|dylib)|/(?:lib)?torch[^/]*(?:/|$)")
# Directories of every machine, of those that build torch, and temporary ones.
SYSTEM = Expression(r"/(?:usr|bin|sbin|lib(?:32|64)?|etc|dev|proc|sys|opt/rh|nix)(?:/|$)")
BUILDERS = Expression(r"/(?:__w|pytorch|croot|opt/conda/conda-bld)/|/tmp/(?:cc\w+\.|tmp\w+\.|pip-|build-env)")
# A source, object or binary that a line names without a directory.
RELATIVE = Expression(
    r"(?:^|[\s'\"`(\[])((?:\./)?[\w+-][\w+./-]*\.(?:o|so|a|cpp|cc|cxx|c|cu|nim|rs|go|py)|\./[\w+./-]+)"
    r"(?=$|[\s'\"`:,)(\]])"
)
# What a tool says of a path that is not there, on its own machine either.
ABSENT = Expression(
    r"(?i)no such (?:file|dir)|no rule to make|not found|cannot find|does(?: not|n't) exist|no known rule|cannot open"
    r"|non-?existent"
)
OF_MACOS = Expression(CONTEXTS["macos"])
MOST_PATHS = 64


class Scene(NamedTuple):
    """Where a log is from, as far as its paths show it."""

    # "here": a path that it names exists on this machine; "elsewhere": it names paths, and none of them does;
    # "unknown": it names none
    place: str
    libtorch: Libtorch | None  # the one that it names, if that is here; otherwise the one that `find` takes
    named: bool  # whether the log or the user names it


class MachineFacts:
    """The facts about this machine, each read once.

    Args:
        libtorch: what `--libtorch` named; it is used whatever the log says.
        python: what `--python` named.
        here: whether the log is known to be of this machine.
        root: the libtorch that the log is known to be about.
        command: what was run and printed the log.
    """

    def __init__(
        self,
        libtorch: Path | None = None,
        python: str | None = None,
        *,
        here: bool = False,
        root: Path | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self._libtorch = libtorch or root
        self._python = python
        self._here = here
        self._command = tuple(command)
        self._examiner: Examiner | None = None

    @cached_property
    def libtorch(self) -> Libtorch | None:
        """The libtorch that `torchlink find` takes; None if there is none.

        Raises:
            TorchlinkError: the one that the user named cannot be used.
        """
        from torchlink.libtorch.choose import choose

        try:
            return choose(self._libtorch, self._python)
        except ResourcesError:
            raise
        except TorchlinkError:
            if self.given:
                raise
            return None

    @property
    def given(self) -> bool:
        """Whether the user named a libtorch."""
        return self._libtorch is not None or self._python is not None

    @cached_property
    def compiler(self) -> Compiler | None:
        """The default C++ compiler."""
        from torchlink.toolchain.compiler import find_compiler

        return _or_none(find_compiler)

    @cached_property
    def cmake(self) -> Tool | None:
        """CMake."""
        from torchlink.toolchain.tools import find_tool

        return _or_none(lambda: find_tool("cmake"))

    @cached_property
    def _given(self) -> Mapping[str, str]:
        """What the command that was run says about the samples in fixes."""
        from torchlink.explain.commands import values_of

        return values_of(self._command)

    @cached_property
    def python(self) -> str:
        """The interpreter that was run, that of libtorch's environment, or the one on PATH."""
        if "interpreter" in self._given:
            return self._given["interpreter"]
        if self.libtorch and self.libtorch.python:
            return str(self.libtorch.python)
        from torchlink.process import which

        return which("python3") or sys.executable

    def about(self, hits: Sequence[str], others: Sequence[str] = ()) -> None:
        """Learn which machine and which libtorch a log is about.

        Args:
            hits: the lines that match any pattern.
            others: the lines at the ends of the log.
        """
        near = (*self._command, *others)
        self._examiner = Examiner(self, self.scene(hits, near), (*hits, *near))

    def holds(self, check: str, lines: Sequence[Line]) -> bool | None:
        """Whether a named check (`checks.py`) holds of lines; None: it cannot be told here."""
        return self._looks.holds(check, _texts(lines))

    def settled(self, cause: str, certainty: str, lines: Sequence[Line]) -> tuple[str, str]:
        """Return the cause and the certainty that this machine's files show in place of what the text says."""
        return self._looks.settled(cause, certainty, _texts(lines))

    def values(self, cause: str, lines: Sequence[Line]) -> Mapping[str, str]:
        """Return the values of placeholders in the fixes of a cause."""
        seen = {**self._given, **self._looks.seen(cause, _texts(lines))}
        return placeholder_values(self, self._looks.scene, seen)

    def repeats(self, command: str) -> bool:
        """Whether a fix is the command that has just failed."""
        from torchlink.explain.commands import repeats

        return repeats(self._command, command)

    def for_interpreter(self, command: str) -> str:
        """Return a command with the interpreter that has failed, if one has."""
        from torchlink.explain.placeholders import command as replaced

        return replaced(command, "pip", self._given)

    def notes(self, cause: str, lines: Sequence[Line], *, replaced: bool) -> tuple[str, ...]:
        """Return sentences on what this machine says about a cause; `replaced`: its fixes show values of it."""
        return self._looks.notes(cause, _texts(lines), replaced=replaced)

    @property
    def _looks(self) -> Examiner:
        if self._examiner is None:
            self._examiner = Examiner(self, self.scene(()))
        return self._examiner

    def scene(self, lines: Sequence[str], others: Sequence[str] = ()) -> Scene:
        """Return where a log is from, as paths show it: all in some lines, those of libtorch in others."""
        if self.given:
            return Scene("here", self.libtorch, named=True)
        of_macos = any(map(OF_MACOS.search, lines))
        if of_macos and self.libtorch is not None and self.libtorch.platform != "macos":
            return Scene("elsewhere", self.libtorch, named=False)
        paths = paths_in(lines)
        of_torch = [path for path in (*paths, *paths_in(others)) if OF_TORCH.search(path)]
        for path in dict.fromkeys(of_torch):
            if os.path.lexists(path) and (found := self._at(path)):
                return Scene("here", found, named=True)
        if any(map(os.path.exists, paths)):
            return Scene("here", self.libtorch, named=False)
        missing = {path for line in (*lines, *others) if ABSENT.search(line) for path in paths_in((line,))}
        if not self._here and any(path not in missing for path in (*paths, *of_torch)):
            return Scene("elsewhere", self.libtorch, named=False)
        relative = {found[1] for line in lines for found in RELATIVE.finditer(line)}
        here = self._here or any(map(os.path.isfile, sorted(relative)[:MOST_PATHS]))
        return Scene("here" if here else "unknown", self.libtorch, named=False)

    def _at(self, path: str) -> Libtorch | None:
        """Return the libtorch that a path of the log leads to: the chosen one, or another."""
        if self.libtorch and Path(os.path.realpath(path)).is_relative_to(
            os.path.realpath(self.libtorch.root)
        ):
            return self.libtorch
        from torchlink.libtorch.inspect import inspect
        from torchlink.libtorch.machine import is_foreign

        place = Path(path)
        for each in (place, *place.parents[:8]):
            if OF_TORCH.search(str(each)) is None:
                break
            found = _or_none(partial(inspect, each, "the log"))
            if found is not None:
                return None if is_foreign(found) else found
        return None


def _texts(lines: Sequence[Line]) -> tuple[str, ...]:
    return tuple(line.text for line in lines)


def _or_none(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except ResourcesError:
        raise
    except TorchlinkError:
        return None


def paths_in(lines: Iterable[str]) -> list[str]:
    """Return the absolute paths that lines name, except those that say nothing about the machine."""
    found: dict[str, None] = {}
    for line in lines:
        for match in PATH.finditer(line):
            path = match[1].rstrip("./")
            if path.count("/") < 2 or path.startswith("//") or BUILDERS.match(path):
                continue
            if OF_TORCH.search(path) or not SYSTEM.match(path):
                found[path] = None
        if len(found) > MOST_PATHS:
            break
    return list(found)
