"""The rule about the C library: what was linked with glibc does not run with musl, nor the other way round.

Rules about the machine that a binary is for, and about how it wants to be mapped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.libtorch.machine import this_machine
from torchlink.libtorch.names import TORCH_LIBRARIES, bare_name
from torchlink.lint.context import file_name, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.missing import OTHER_MACHINE, is_foreign, missing_names, other_c_library, severity_of
from torchlink.lint.search_path import all_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import Edge, LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule


SHOWN = 5  # symbols in a finding's evidence


@rule("c-library-mismatch", Severity.ERROR, "A library was linked with another C library than the program.")
def c_library_mismatch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for all of them: the cause is the system that they were built for."""
    objects = context.once(other_c_library)
    if not objects:
        return
    theirs, ours = ("glibc", "musl") if context.system.family == "musl" else ("musl", "glibc")
    torch = {each.path for group in context.torch.values() for each in group}
    names = ", ".join(file_name(path) for path in objects)
    are, need = ("is", "it needs") if len(objects) == 1 else ("are", "they need")
    needed = ", ".join(dict.fromkeys(name for group in objects.values() for name in group))
    loader = f", whose loader is {context.system.interpreter}" if context.system.interpreter else ""
    whose = "This libtorch is" if torch & objects.keys() else f"{names} {are}"
    subject = (
        f"{context.name} was itself linked with {theirs} (it needs {needed}), and {ours} would load it"
        if context.subject.path in objects
        else f"{whose} built for {theirs} ({names}: {need} {needed}), and {context.name} runs on {ours}{loader}"
    )
    fix = f"Take a build of {names} for {ours}, or build and run {context.name} on a system with {theirs}."
    if torch & objects.keys() and theirs == "glibc":
        fix = (
            f"Build and run {context.name} on a system with glibc (an image such as debian:12-slim instead of "
            "Alpine), or "
            "build PyTorch from source on the system with musl: no published libtorch is for musl, and gcompat does "
            "not make up for it."
        )
    missing = {edges[0].name: edges for edges in missing_names(context).get(rule.id, ())}
    yield rule.finding(
        "libtorch" if torch & objects.keys() else names,
        f"{subject}: it does not start.",
        fix,
        (
            *(f"{name}: not found" for name in missing),
            *unresolved(context, objects),
        ),
    )


def unresolved(context: LintContext, objects: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """What a text calls undefined in these objects, a line each."""
    if not context.from_text:
        return
    for path in objects:
        symbols = [symbol.symbol for symbol in context.scope.undefined_symbols(path)]
        if symbols:
            more = f" and {len(symbols) - SHOWN} more" if len(symbols) > SHOWN else ""
            yield f"{file_name(path)}: symbol not found: {', '.join(symbols[:SHOWN])}{more}"


C_LIBRARY = (c_library_mismatch,)


LEGACY_NAMES = frozenset(
    {"tls", "sse2", "atomics", "x86_64", "i586", "i686", "haswell", "xeon_phi", "avx512_1"}
)
SEARCH_KINDS = frozenset({"rpath", "runpath", "LD_LIBRARY_PATH"})  # where the user said to look


@rule("wrong-architecture", Severity.ERROR, "A library of the closure is for another machine.")
def wrong_architecture(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding a file that the loader passes over, and one for a binary that is not for this machine."""
    machine = context.subject.elf.machine
    named: set[str] = set()
    if is_foreign(context):
        unknown = [edges[0].name for edges in missing_names(context).get(rule.id, ())]
        yield rule.finding(
            context.name,
            f"{context.name} is for {machine}, and this machine is {this_machine().arch} without a loader for it: it "
            "does not start here, and what it would load from the system cannot be checked.",
            "Check it as it will be run: --root DIR with an image or sysroot of that machine. If it was to run here, "
            "build it with this machine's compiler.",
            tuple(f"not checked: {name}" for name in unknown if bare_name(name) not in TORCH_LIBRARIES),
            severity=Severity.WARNING,
        )
    else:
        yield from system_of_another_machine(rule, context)
    for edge in context.closure.edges:
        if of_the_system(edge):
            continue
        for path, reason in passed_over(edge, context):
            if path not in named:
                named.add(path)
                lost = edge.missing
                outcome = f"{context.name} does not start" if lost else f"another one is taken, {edge.path}"
                yield rule.finding(
                    path,
                    f"{path}, needed by {file_name(edge.needed_by)}, {reason}, but {context.name} is for "
                    f"{machine}: the "
                    f"loader passes it over, and {outcome}.",
                    f"Put the build of {edge.name} for {machine} there, or make the search path lead to it.",
                    severity=severity_of(edge.name, None, context) if lost else Severity.WARNING,
                )
    for each in context.closure.objects[1:]:  # musl's loader does not look, and fails when it relocates
        if each.elf.machine != machine:
            yield rule.finding(
                each.path,
                f"{each.path} is for {each.elf.machine}, but {context.name} is for {machine}: it does not start.",
                f"Put the build of {each.name} for {machine} there.",
            )


def system_of_another_machine(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for all that the system has for another machine alone: the binary is the odd one."""
    lost = [edge for edge in context.closure.edges if of_the_system(edge)]
    if lost:
        names = ", ".join(dict.fromkeys(edge.name for edge in lost))
        reason = next(tried.reason for tried in lost[0].tried if tried.reason.startswith(OTHER_MACHINE))
        yield rule.finding(
            context.name,
            f"{context.name} is for {context.subject.elf.machine}, but what the system has of the libraries "
            "that it needs "
            f"({names}) {reason}: {context.name} does not start.",
            "Build it for the machine of this system, or install its libraries for "
            f"{context.subject.elf.machine}; where "
            "the binary names the right loader all the same, its header is damaged: link it again.",
            tuple(
                f"{tried.path}: {tried.reason}"
                for edge in lost
                for tried in edge.tried
                if tried.reason.startswith(OTHER_MACHINE)
            ),
            severity=max(severity_of(edge.name, None, context) for edge in lost),
        )


def of_the_system(edge: Edge) -> bool:
    """Whether a library is missing because the system's own, and no other, is for another machine."""
    passed = [tried for tried in edge.tried if tried.reason.startswith(OTHER_MACHINE)]
    return edge.missing and bool(passed) and not any(tried.found_via.kind in SEARCH_KINDS for tried in passed)


def passed_over(edge: Edge, context: LintContext) -> Iterator[tuple[str, str]]:
    """Files of another machine in a search, (path, `is for …`); the system's own multiarch ones are normal."""
    for tried in edge.tried:
        if tried.reason.startswith(OTHER_MACHINE) and (edge.missing or tried.found_via.kind in SEARCH_KINDS):
            owner = context.closure.object(tried.found_via.owner or "")
            if edge.missing or owner is None or owner in context.own:
                yield tried.path, tried.reason


def mapped(context: LintContext) -> Iterator[LoadedObject]:
    """The binary and what it ships, libtorch included; the system's own libraries fit the system."""
    for each in context.closure.objects:
        if each is context.subject or not context.is_system(each):
            yield each


@rule("text-relocations", Severity.WARNING, "Code must be changed while it is loaded.")
def text_relocations(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Hardened systems do not let a process write to its code."""
    for each in mapped(context):
        if each.elf.dynamic.textrel:
            name = file_name(each.path)
            yield rule.finding(
                name,
                f"{each.path} has text relocations: its code is written to while it is loaded. SELinux and other "
                f"hardened systems forbid that, so {context.name} does not start there, and processes do not share it.",
                f"Compile everything that goes into {name} with -fPIC (static libraries too); with -Wl,-z,text the "
                "linker refuses it.",
            )


@rule("executable-stack", Severity.WARNING, "Asks for a stack from which code can be run.")
def executable_stack(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One object that asks for it makes the stacks of the whole process executable."""
    for each in mapped(context):
        if each.elf.exec_stack and each.elf.type in {"exec", "dyn"}:
            name = file_name(each.path)
            yield rule.finding(
                name,
                f"{each.path} asks for an executable stack: hardened kernels refuse it (`cannot enable executable "
                "stack`), glibc from 2.41 on refuses it to libraries that are loaded later, as Python extensions are, "
                "and an overflow of the stack becomes easy to exploit.",
                'Usually one assembly file lacks `.section .note.GNU-stack,"",@progbits`: add it, or link with '
                f"-Wl,-z,noexecstack; for a built file: patchelf --clear-execstack {name}.",
            )


@rule("cpu-dependent-search", Severity.WARNING, "Where a library is found depends on the processor.")
def cpu_dependent_search(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Libraries in a directory for one kind of processor alone, and `$PLATFORM` in a search path."""
    system = context.system
    mine = [
        each
        for each in context.closure.objects[1:]
        if each.found_via.kind != "loaded" and is_for_some_cpu(each)
    ]
    if mine:
        from torchlink.binary.loader import resolve

        other = resolve(
            context.subject.file,
            system=system.for_any_cpu(),
            environment=context.options.environment,
            secure=context.closure.secure,
        )
        lost = {edge.name for edge in other.missing}
        for each in mine:
            if each.name in lost:
                legacy = "/glibc-hwcaps/" not in each.path
                since = " before 2.37" if legacy else ""
                yield rule.finding(
                    each.path,
                    f"{context.name} finds {each.name} only in {real_dir(each)}, which glibc{since} searches on some "
                    f"processors: on others{', and with a newer glibc,' if legacy else ''} it does not start.",
                    "Put a build for every processor into the directory above it.",
                    (f"{each.path}: {each.found_via}",),
                )
    for entry in context.once(all_entries):
        if system.family == "glibc" and re.search(r"\$(PLATFORM\b|\{PLATFORM\})", entry.text):
            kinds = "x86_64, haswell or xeon_phi by the processor and the release of glibc"
            varies = kinds if context.subject.elf.machine in {"x86_64", "x32"} else "what the processor is"
            yield rule.finding(
                entry.text,
                f"The {entry.kind.upper()} of {file_name(entry.owner.path)} names {entry.text}: $PLATFORM stands for "
                f"{varies}. Here it is {system.platform or 'nothing'}, so the loader looks in {entry.directory}.",
                "Write the directory out, or use $LIB where the system's own name for it is meant.",
            )


def is_for_some_cpu(each: LoadedObject) -> bool:
    """Whether an object was found in a subdirectory that is searched on some processors only."""
    way = each.path.rpartition("/")[0]
    return "/glibc-hwcaps/" in way or way.rpartition("/")[2] in LEGACY_NAMES


MACHINE = (wrong_architecture, text_relocations, executable_stack, cpu_dependent_search)
