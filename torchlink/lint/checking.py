"""Judging one binary: its closure, every rule, and what is shown of both."""

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
# Who defines or calls these is or holds an interpreter, whose built-in modules it may export.
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
    """What the rules say about one ELF file; it is read, never run.

    Args:
        path: a program, shared library or Python extension module.
        options: what it is checked against.
        rules: the rules to apply.
        root: an image or sysroot that it will run in.
        files: keeps libraries open from one file to the next.
        torches: where the libtorch comes from that Python has loaded when it imports an extension.
        tree: the files as it will see them, where that is no root: in an emulator.

    Raises:
        FileError: the file cannot be read, is no regular file, or nothing that a loader loads.
        MalformedFileError: it, or a library of its closure, is no ELF file or contradicts itself.
    """
    examined = examine(
        path, options or LintOptions(), root=root, files=files or OpenFiles(), torches=torches, tree=tree
    )
    return report_of(examined, path, rules)


class Examined(NamedTuple):
    """A binary as it is to be checked."""

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
    """One ELF file, its closure and the libtorch around it; parameters and errors are those of `judge`.

    Where `imported`, Python loads it, whatever it exports.
    """
    elf = files.open(path)[0]
    if elf.type not in {"exec", "dyn"}:
        raise FileError(
            f"{path} is {UNLINKED.get(elf.type, 'no program or library')}: nothing loads it.",
            hint="Name the program or library that it was linked into.",
        )
    system = system_for(elf, root, tree=tree)
    closure = resolve(path, system=system, environment=options.environment, files=files)
    kind = "python extension" if imported else kind_of(path, elf)
    context = LintContext(closure, Scope(closure), options, kind, system)
    remarks = tuple(left_open(context))
    assumed: tuple[str, ...] = ()
    if context.is_extension:
        from torchlink.lint.importing import after_import_of_torch

        context, assumed, more = after_import_of_torch(context, torches, files)
        remarks += more
    if options.shell:
        from torchlink.lint.shell import changes

        def again(other: LintOptions) -> LintContext:
            return examine(path, other, root=root, files=files, torches=torches, imported=imported).context

        assumed += tuple(changes(context, again))
    return Examined(context, remarks, assumed)


def report_of(examined: Examined, path: Path, rules: Iterable[Rule]) -> FileReport:
    """What the rules say about a binary."""
    context = examined.context
    return FileReport(
        str(path),
        context.kind,
        to_the_variable(findings_of(context, rules), context, rules),
        entries(context.closure),
        not_checked=examined.not_checked,
        assumed=examined.assumed,
    )


def left_open(context: LintContext) -> Iterator[str]:
    """What could not be checked, in sentences."""
    elf, tree = context.subject.elf, context.system.tree
    static_pie = elf.dynamic.is_pie and elf.interpreter is None and not elf.dynamic.needed
    if static_pie or not elf.dynamic.present:
        yield "It is statically linked: there are no libraries to check."
    outside = [each for each in context.closure.objects if tree.inside(str(each.file)) is None]
    if context.subject in outside[:1] and len(outside) > 1:
        names = ", ".join(each.path for each in outside[1:])
        yield (
            f"It is outside the root {tree.root}, and takes from this machine what the root may not have: {names}. "
            "What it finds in the root only a copy that is there tells."
        )


def findings_of(context: LintContext, rules: Iterable[Rule]) -> tuple[Finding, ...]:
    """What the rules say about a case, the worst first."""
    findings = [finding for rule in rules for finding in rule.check_binary(rule, context)]
    findings.sort(key=lambda finding: finding.severity, reverse=True)
    return tuple(findings)


def to_the_variable(
    findings: tuple[Finding, ...], context: LintContext, rules: Iterable[Rule]
) -> tuple[Finding, ...]:
    """The findings, where those that only LD_LIBRARY_PATH or LD_PRELOAD bring about have the fix that suits them."""
    bare = context.bare
    if bare is None or not bare.complete:
        return findings
    without = findings_of(bare, rules)
    known = {(each.rule, each.subject) for each in without}
    if any(each.severity is Severity.ERROR for each in without):
        return findings  # it is not well without them either
    names = " and ".join(name for name in VARIABLES if context.options.environment.get(name))
    fix = (
        f"Unset {names}: without that, {context.name} takes the libraries to which its own search path leads, "
        "and has no such fault."
    )
    return tuple(
        each._replace(fix=fix)
        if each.severity is Severity.ERROR and (each.rule, each.subject) not in known
        else each
        for each in findings
    )


def kind_of(path: Path, elf: ElfFile) -> str:
    """What a file is: a program names its loader; an extension module exports its `PyInit_…`.

    By whatever name: a build may call it `libmine.so` and install it as `mine.so`. A name that only Python gives
    tells it too: an extension that only registers operators may export nothing.
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
    """The closure as reports show it: its objects in load order, then what is missing."""
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
    lost = [
        ClosureEntry(edge.name, None, edge.fatal or "not found", edge.needed_by, tuple(searched[edge.name]))
        for edge in missing.values()
    ]
    return (*found, *lost)
