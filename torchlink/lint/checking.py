"""Checking one binary: its closure, every rule, and the report of both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.bindings import Scope
from torchlink.binary.loader import OpenFiles, resolve
from torchlink.binary.system import system_for
from torchlink.errors import FileError
from torchlink.lint.context import VARIABLES, LintContext, LintOptions
from torchlink.lint.finding import ClosureEntry, FileReport, Severity
from torchlink.lint.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from torchlink.binary.closure import Closure
    from torchlink.binary.elf import ElfFile
    from torchlink.binary.tree import Root
    from torchlink.lint.finding import Finding, Rule
    from torchlink.lint.importing import Torches

LONGEST_NAME = 256  # bytes of a module's name that are read
# An object that defines or calls one of these is or contains an interpreter, and may export its built-in modules.
STARTS_PYTHON = (b"Py_Initialize", b"Py_InitializeEx", b"Py_InitializeFromConfig", b"PyImport_AppendInittab")
EXTENSION_NAME = r"\.(cpython|pypy|graalpy)-?\d[\w-]*\.so$|\.abi3\.so$"
UNLINKED = {"rel": "an object file", "core": "a core dump"}


def check_binary(
    path: Path,
    options: LintOptions | None = None,
    *,
    rules: Iterable[Rule] = RULES,
    root: Path | None = None,
    files: OpenFiles | None = None,
    torches: Torches | None = None,
    tree: Root | None = None,
) -> FileReport:
    """Apply rules to one ELF file; it is read, never run.

    Args:
        path: a program, shared library or Python extension module.
        options: what it is checked against.
        rules: the rules to apply.
        root: an image or sysroot that it will run in.
        files: keeps libraries open from one file to the next.
        torches: where to find the libtorch that Python has loaded when it imports an extension.
        tree: the file system that it will see, if that is not `root`: in an emulator.

    Raises:
        FileError: the file cannot be read, is not a regular file, or is not a type that a loader loads.
        MalformedFileError: it, or a library of its closure, is not an ELF file or is damaged.
    """
    examined = examine(
        path, options or LintOptions(), root=root, files=files or OpenFiles(), torches=torches, tree=tree
    )
    return report_of(examined, path, rules)


class Examined(NamedTuple):
    """A binary, ready to be checked."""

    context: LintContext
    not_checked: tuple[str, ...]
    assumed: tuple[str, ...]


def examine(
    path: Path,
    options: LintOptions,
    *,
    root: Path | None = None,
    files: OpenFiles,
    torches: Torches | None = None,
    imported: bool = False,
    tree: Root | None = None,
) -> Examined:
    """Resolve the closure of one ELF file and find the libtorch around it.

    Parameters and errors are those of `check_binary`. If `imported`, Python loads the file, whatever it exports.
    """
    elf = files.open(path)[0]
    if elf.type not in {"exec", "dyn"}:
        raise FileError(
            f"{path} is {UNLINKED.get(elf.type, 'not a program or library')}: the loader does not load it.",
            hint="Name the program or library that it was linked into.",
        )
    system = system_for(elf, root, tree=tree)
    closure = resolve(path, system=system, environment=options.environment, files=files)
    kind = "python extension" if imported else kind_of(path, elf)
    context = LintContext(closure, Scope(closure), options, kind, system)
    not_checked = tuple(unchecked(context))
    assumed: tuple[str, ...] = ()
    if context.is_extension:
        from torchlink.lint.importing import after_import_of_torch

        context, assumed, more = after_import_of_torch(context, torches, files)
        not_checked += more
    if options.shell:
        from torchlink.lint.shell import changes

        def again(other: LintOptions) -> LintContext:
            return examine(path, other, root=root, files=files, torches=torches, imported=imported).context

        assumed += tuple(changes(context, again))
    return Examined(context, not_checked, assumed)


def report_of(examined: Examined, path: Path, rules: Iterable[Rule]) -> FileReport:
    """Apply rules to an examined binary."""
    context = examined.context
    return FileReport(
        str(path),
        context.kind,
        with_environment_fix(findings_of(context, rules), context, rules),
        entries(context.closure),
        not_checked=examined.not_checked,
        assumed=examined.assumed,
    )


def unchecked(context: LintContext) -> Iterator[str]:
    """Return sentences about what cannot be checked."""
    elf, tree = context.subject.elf, context.system.tree
    static_pie = elf.dynamic.is_pie and elf.interpreter is None and not elf.dynamic.needed
    if static_pie or not elf.dynamic.present:
        yield "It is statically linked: there are no libraries to check."
    outside = [each for each in context.closure.objects if tree.inside(str(each.file)) is None]
    if context.subject in outside[:1] and len(outside) > 1:
        names = ", ".join(each.path for each in outside[1:])
        yield (
            f"It is outside the root {tree.root}, and loads from this machine what the root may lack: {names}. Copy it "
            "into the root to check what it finds there."
        )


def findings_of(context: LintContext, rules: Iterable[Rule]) -> tuple[Finding, ...]:
    """Return the findings of rules about a context, the most severe first."""
    findings = [finding for rule in rules for finding in rule.check_binary(rule, context)]
    findings.sort(key=lambda finding: finding.severity, reverse=True)
    return tuple(findings)


def with_environment_fix(
    findings: tuple[Finding, ...], context: LintContext, rules: Iterable[Rule]
) -> tuple[Finding, ...]:
    """Return the findings, with a fix of their own for errors that only LD_LIBRARY_PATH or LD_PRELOAD cause."""
    bare = context.without_variables
    if bare is None or not bare.complete:
        return findings
    without = findings_of(bare, rules)
    known = {(each.rule, each.subject) for each in without}
    if any(each.severity is Severity.ERROR for each in without):
        return findings  # unsetting the variables is not enough
    names = " and ".join(name for name in VARIABLES if context.options.environment.get(name))
    fix = (
        f"Unset {names}: {context.name} then loads the libraries of its own search path, without this error."
    )
    return tuple(
        each._replace(fix=fix)
        if each.severity is Severity.ERROR and (each.rule, each.subject) not in known
        else each
        for each in findings
    )


def kind_of(path: Path, elf: ElfFile) -> str:
    """Return the kind of a file: a program has an interpreter, a Python extension exports `PyInit_…`.

    Any `PyInit_…` counts: a build may call the file `libmine.so` and install it as `mine.so`. A file name that only
    Python uses counts too: an extension that only registers operators may export nothing.
    """
    if elf.interpreter is not None or elf.type == "exec" or elf.dynamic.is_pie:
        return "executable"
    if re.search(EXTENSION_NAME, path.name):
        return "python extension"
    if any(elf.defines(f"PyInit_{path.name.partition('.')[0]}{tail}") for tail in ("", "_")):
        return "python extension"
    found = elf.find_in_section(".dynstr", b"\0PyInit_", 0, LONGEST_NAME)
    name = found[1:].partition(b"\0")[0].decode("utf-8", "replace") if found else ""
    if not name or not elf.defines(name) or elf.defines(STARTS_PYTHON[0].decode()):
        return "shared library"
    embeds = set(STARTS_PYTHON).intersection(elf.undefined_names())
    return "shared library" if embeds else "python extension"


def entries(closure: Closure) -> tuple[ClosureEntry, ...]:
    """Return the entries of a closure for reports: its objects in load order, then the missing libraries."""
    searched: dict[str, list[str]] = {}
    needs: dict[str, list[str]] = {}
    for edge in closure.edges:
        lines = [f"{tried.path}: {tried.reason}" for tried in edge.tried]
        searched.setdefault(edge.path or edge.name, lines)
        needs.setdefault(edge.needed_by, []).append(edge.path or edge.name)
    found = [
        ClosureEntry(
            each.name,
            each.path,
            str(each.found_via),
            each.needed_by,
            tuple(searched.get(each.path, ())),
            tuple(dict.fromkeys(needs.get(each.path, ()))),
        )
        for each in closure.objects
    ]
    missing = {edge.name: edge for edge in reversed(closure.missing)}
    not_found = [
        ClosureEntry(edge.name, None, edge.fatal or "not found", edge.needed_by, tuple(searched[edge.name]))
        for edge in missing.values()
    ]
    return (*found, *not_found)
