"""Why a library is missing: each missing name belongs to one rule, so that one cause gives one finding."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.libtorch.machine import this_machine
from torchlink.libtorch.names import DRIVER, NVIDIA, TORCH_LIBRARIES, bare_name
from torchlink.lint.context import is_unseen
from torchlink.lint.finding import Severity
from torchlink.lint.search_dirs import entries_of, is_there
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from torchlink.binary.closure import Closure, Edge, LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.search_dirs import SearchDir

PYTHON = r"libpython\d"
OTHER_MACHINE = "is for "
# NEEDED names of the C library, which show what a file was linked with.
OF_GLIBC, OF_MUSL = r"libc\.so\.6$", r"libc\.(so|musl-[\w-]+\.so\.1)$"
# NEEDED names that only files linked with glibc have; musl is one file, libc.so, which is also its loader.
GLIBC_PART = r"(lib(c|m)\.so\.6|lib(pthread\.so\.0|dl\.so\.2|(rt|util)\.so\.1)|ld-linux[\w-]*\.so\.\d)$"
OF_GLIBC_ALONE = r"__\w+_chk$"  # the checked functions that -D_FORTIFY_SOURCE uses
MOST_NEIGHBOURS = 1000  # entries of a directory that are searched; no package has more
# The functions of libtorch by which an object registers operators, kernels, classes or a device guard when loaded.
REGISTERS = (
    rb"_ZN(5torch7Library|3c1017RegisterOperators|3c1010Dispatcher\d+register|5torch3jit1\dregisterOperator"
    rb"|5torch\d+registerCustomClass|3c104impl24DeviceGuardImplRegistrar|3c1012SetAllocator"
    rb"|5torch6detail\d+class_base)|(aoti_)?torch_library_"
)


def missing_names(context: LintContext) -> dict[str, list[tuple[Edge, ...]]]:
    """Return the missing names by the rule that reports them: rule id → edges, grouped by name."""
    edges: dict[str, list[Edge]] = {}
    for edge in context.closure.missing:
        edges.setdefault(edge.name, []).append(edge)
    by_rule: dict[str, list[tuple[Edge, ...]]] = {}
    for group in edges.values():
        by_rule.setdefault(responsible_rule(group[0], context), []).append(tuple(group))
    return by_rule


def responsible_rule(edge: Edge, context: LintContext) -> str:
    """Return the id of the rule that reports why a library is missing."""
    if edge.needed_by in context.once(other_c_library):
        return "c-library-mismatch"
    if any(tried.reason.startswith(OTHER_MACHINE) for tried in edge.tried):
        return "wrong-architecture"
    if is_foreign(context) and bare_name(edge.name) not in TORCH_LIBRARIES:
        return "wrong-architecture"
    if edge.fatal and edge.tried:  # a file was found that is not a library
        return "library-not-found"
    if is_relative(edge.name) and any(each.path == edge.needed_by for each in context.own):
        return "needed-by-relative-path"
    if not_inherited(edge.name, edge.needed_by, context):
        return "runpath-not-inherited"
    if context.is_extension and re.match(PYTHON, edge.name) and edge.needed_by == context.subject.path:
        return "extension-links-libpython"
    return "library-not-found"


def other_c_library(context: LintContext) -> dict[str, tuple[str, ...]]:
    """Return the objects linked with a different C library than the loader's: path → what they need from it."""
    pattern = GLIBC_PART if context.system.family == "musl" else OF_MUSL
    found: dict[str, list[str]] = {}
    for edge in context.closure.edges:
        if re.match(pattern, edge.name):
            found.setdefault(edge.needed_by, []).append(edge.name)
    if context.from_text and context.system.family == "musl":
        for each in context.closure.objects:
            names = [symbol.symbol for symbol in context.scope.undefined_symbols(each.path)]
            if each.path not in found and (
                fortified := [name for name in names if re.match(OF_GLIBC_ALONE, name)]
            ):
                found[each.path] = fortified[:1]
    if is_unseen(context.subject) and context.subject.path in found:
        # A text that does not say what needs a library attributes it to the program.
        needs = found.pop(context.subject.path)
        torch = [each.path for objects in context.torch.values() for each in objects]
        found.update((path, needs) for path in torch or [each.path for each in context.closure.objects[1:2]])
    return {path: tuple(names) for path, names in found.items()}


def is_relative(needed: str) -> bool:
    """Whether a NEEDED name is a path that the loader opens from the current directory, without a search."""
    return "/" in needed and not needed.startswith(("/", "$ORIGIN", "${ORIGIN}"))


def is_foreign(context: LintContext) -> bool:
    """Whether the binary is for another machine, so that its system libraries are not here."""
    if context.system.tree.root is not None or context.subject.elf.machine == this_machine().arch:
        return False
    loader = context.system.interpreter
    return loader is None or not is_there(Path(context.system.tree.on_host(loader)))


def not_inherited(name: str, needed_by: str, context: LintContext) -> SearchDir | None:
    """Return the RUNPATH entry of an object further up the chain that holds a library of this name.

    None on musl, where a RUNPATH is inherited.
    """
    if context.system.family == "musl":
        return None
    user = context.closure.object(needed_by)
    above = None if user is None or user.needed_by is None else context.closure.object(user.needed_by)
    while above is not None:
        for entry in entries_of(above, context):
            if entry.kind == "runpath" and is_there(entry.host / name):
                return entry
        above = None if above.needed_by is None else context.closure.object(above.needed_by)
    return None


def of_libtorch(edge: Edge) -> bool:
    """Whether a missing library is one of libtorch's that a search path could find."""
    return bare_name(edge.name) in TORCH_LIBRARIES and not edge.fatal and "/" not in edge.name


def nearby(edge: Edge, requester: LoadedObject, closure: Closure, context: LintContext) -> str | None:
    """Return the directory near an object that holds a missing library, as an entry for the object's search path.

    Libtorch's libraries must come from one build: a directory counts only if it holds all that the closure lacks, and
    it is the same one for every object.
    None for a set-uid program, for which the loader does not expand `$ORIGIN`.

    Args:
        edge: to the missing library.
        requester: the object that needs it.
        closure: that lacks it: the binary's, or the one that it would have after relinking.
        context: the binary.
    """
    if context.closure.secure and requester.path == context.subject.path:
        return None
    names, start = [edge.name], requester
    if of_libtorch(edge):
        edges = list(filter(of_libtorch, closure.missing))
        names = list(dict.fromkeys(each.name for each in edges))
        start = closure.object(edges[0].needed_by) or requester
    directory = directory_around(context.on_host(start.origin, start), names, context)
    if directory is None:
        return None
    way = os.path.relpath(directory, context.on_host(requester.origin, requester))
    return "$ORIGIN" if way == os.curdir else f"$ORIGIN/{way}"


def directory_around(here: Path, names: list[str], context: LintContext) -> Path | None:
    """Return the first directory near another that holds libraries of all these names that fit the binary."""
    if all(fits(here / name, context) for name in names):
        return here
    for place in (here, here.parent, here.parent.parent):
        if place == place.parent:
            break
        try:
            inside = sorted(islice(place.iterdir(), MOST_NEIGHBOURS), key=search_order)
        except OSError as error:
            not_about_the_file(place, error)
            continue
        for directory in (place, *inside, *(each / "lib" for each in inside)):
            if all(fits(directory / name, context) for name in names):
                return directory
    return None


def search_order(directory: Path) -> tuple[bool, Path]:
    """Sort directories named `lib…` before those that a build may have left."""
    return (not directory.name.startswith("lib"), directory)


def fits(path: Path, context: LintContext) -> bool:
    """Whether a path is a library for the binary's machine and C library, and inside the image if there is one."""
    if not is_there(path) or context.system.tree.inside(os.path.realpath(path)) is None:
        return False
    from torchlink.binary.elf import ElfFile

    try:
        with ElfFile.open(path) as elf:
            other = OF_GLIBC if context.system.family == "musl" else OF_MUSL
            wrong = any(re.match(other, each) for each in elf.dynamic.needed)
            return elf.machine == context.subject.elf.machine and not wrong
    except ResourcesError:
        raise
    except TorchlinkError:
        return False


def severity_of(name: str, place: str | None, context: LintContext) -> Severity:
    """Return the severity of a missing library.

    A program does not start without it. A library may be loaded by a program that has already loaded the missing one:
    Python has loaded libtorch once torch is imported, the libraries of a package load each other, and libtorch's own
    libraries find CUDA in other packages.
    """
    if re.match(DRIVER, name):  # it comes with each machine's driver
        return Severity.WARNING if context.is_program else Severity.NOTE
    if context.is_program:
        return Severity.ERROR
    if context.failed:
        return Severity.ERROR
    if context.imported is not None and bare_name(name) in TORCH_LIBRARIES:
        return Severity.ERROR  # `import torch` does not load it
    of_torch = bare_name(name) in TORCH_LIBRARIES or re.match(NVIDIA, name)
    by_others = (
        context.is_extension
        or context.belongs_to_torch(context.subject)
        or registers(context.subject, context)
    )
    if place or (of_torch and by_others):
        return Severity.WARNING
    return Severity.ERROR


def registers(each: LoadedObject, context: LintContext) -> bool:
    """Whether an object registers operators, classes or a device with libtorch when it is loaded."""
    return any(map(re.compile(REGISTERS).match, context.imports(each)))
