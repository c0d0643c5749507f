"""Rules about the system that a binary is for: its C library, its processor, and how its segments are mapped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.libtorch.machine import this_machine
from torchlink.libtorch.names import TORCH_LIBRARIES, bare_name
from torchlink.lint.context import file_name, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.missing import OTHER_MACHINE, is_foreign, missing_names, other_c_library, severity_of
from torchlink.lint.search_dirs import all_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import Edge, LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule


SHOWN = 5  # symbols in a finding's evidence
# Subdirectories that glibc before 2.37 searches on some processors.
LEGACY_NAMES = frozenset(
    {"tls", "sse2", "atomics", "x86_64", "i586", "i686", "haswell", "xeon_phi", "avx512_1"}
)
SEARCH_KINDS = frozenset({"rpath", "runpath", "LD_LIBRARY_PATH"})  # search directories that the user chose


@rule(
    "c-library-mismatch", Severity.ERROR, "A library was linked with a different C library than the program."
)
def c_library_mismatch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for all such libraries: they have one cause, the system that they were built for."""
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
        f"{context.name} was itself linked with {theirs} (it needs {needed}), but is loaded by {ours}"
        if context.subject.path in objects
        else f"{whose} built for {theirs} ({names}: {need} {needed}), but {context.name} runs on {ours}{loader}"
    )
    fix = f"Use a build of {names} for {ours}, or build and run {context.name} on a system with {theirs}."
    if torch & objects.keys() and theirs == "glibc":
        fix = (
            f"Build and run {context.name} on a system with glibc (an image such as debian:12-slim instead of "
            "Alpine), or build PyTorch from source on musl: no published libtorch is for musl, and gcompat does not "
            "provide enough of glibc."
        )
    missing = {edges[0].name: edges for edges in missing_names(context).get(rule.id, ())}
    yield rule.finding(
        "libtorch" if torch & objects.keys() else names,
        f"{subject}: {context.name} does not start.",
        fix,
        (
            *(f"{name}: not found" for name in missing),
            *unresolved(context, objects),
        ),
    )


def unresolved(context: LintContext, objects: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Return the symbols that a text lists as undefined in these objects, one line per object."""
    if not context.from_text:
        return
    for path in objects:
        symbols = [symbol.symbol for symbol in context.scope.undefined_symbols(path)]
        if symbols:
            more = f" and {len(symbols) - SHOWN} more" if len(symbols) > SHOWN else ""
            yield f"{file_name(path)}: symbol not found: {', '.join(symbols[:SHOWN])}{more}"


@rule("wrong-architecture", Severity.ERROR, "A library of the closure is for another machine.")
def wrong_architecture(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per file that the loader skips, and one for a binary that is not for this machine."""
    machine = context.subject.elf.machine
    named: set[str] = set()
    if is_foreign(context):
        unknown = [edges[0].name for edges in missing_names(context).get(rule.id, ())]
        yield rule.finding(
            context.name,
            f"{context.name} is for {machine}, but this machine is {this_machine().arch} and has no loader for "
            f"{machine}: it does not start here, and its system libraries cannot be checked.",
            f"Pass --root DIR with an image or sysroot for {machine}. If it is meant to run here, build it with this "
            "machine's compiler.",
            tuple(f"not checked: {name}" for name in unknown if bare_name(name) not in TORCH_LIBRARIES),
            severity=Severity.WARNING,
        )
    else:
        yield from system_libraries_for_another_machine(rule, context)
    for edge in context.closure.edges:
        if is_system_library_for_another_machine(edge):
            continue
        for path, reason in skipped_files(edge, context):
            if path not in named:
                named.add(path)
                outcome = f"{context.name} does not start" if edge.missing else f"loads {edge.path} instead"
                yield rule.finding(
                    path,
                    f"{path}, needed by {file_name(edge.needed_by)}, {reason}, but {context.name} is for {machine}: "
                    f"the loader skips it{', and ' if edge.missing else ' and '}{outcome}.",
                    f"Put a build of {edge.name} for {machine} there, or make the search path lead to one.",
                    severity=severity_of(edge.name, None, context) if edge.missing else Severity.WARNING,
                )
    for each in context.closure.objects[1:]:  # musl's loader does not check, and fails when it relocates
        if each.elf.machine != machine:
            yield rule.finding(
                each.path,
                f"{each.path} is for {each.elf.machine}, but {context.name} is for {machine}: it does not start.",
                f"Put a build of {each.name} for {machine} there.",
            )


def system_libraries_for_another_machine(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for all libraries that the system has only for another machine: the cause is the binary."""
    missing = [edge for edge in context.closure.edges if is_system_library_for_another_machine(edge)]
    if missing:
        names = ", ".join(dict.fromkeys(edge.name for edge in missing))
        reason = next(tried.reason for tried in missing[0].tried if tried.reason.startswith(OTHER_MACHINE))
        yield rule.finding(
            context.name,
            f"{context.name} is for {context.subject.elf.machine}, but each of the libraries that it needs from the "
            f"system ({names}) {reason}: {context.name} does not start.",
            f"Build it for the machine of this system, or install the libraries for {context.subject.elf.machine}. If "
            "it was built for this machine, its ELF header is damaged: link it again.",
            tuple(
                f"{tried.path}: {tried.reason}"
                for edge in missing
                for tried in edge.tried
                if tried.reason.startswith(OTHER_MACHINE)
            ),
            severity=max(severity_of(edge.name, None, context) for edge in missing),
        )


def is_system_library_for_another_machine(edge: Edge) -> bool:
    """Whether a library is missing because the only candidates, all of the system, are for another machine."""
    skipped = [tried for tried in edge.tried if tried.reason.startswith(OTHER_MACHINE)]
    return (
        edge.missing and bool(skipped) and not any(tried.found_via.kind in SEARCH_KINDS for tried in skipped)
    )


def skipped_files(edge: Edge, context: LintContext) -> Iterator[tuple[str, str]]:
    """Return the files of a search that are for another machine: (path, `is for …`).

    Those of a multiarch system are left out if the library was found.
    """
    for tried in edge.tried:
        if tried.reason.startswith(OTHER_MACHINE) and (edge.missing or tried.found_via.kind in SEARCH_KINDS):
            owner = context.closure.object(tried.found_via.owner or "")
            if edge.missing or owner is None or owner in context.own:
                yield tried.path, tried.reason


def mapped(context: LintContext) -> Iterator[LoadedObject]:
    """Return the binary and the libraries shipped with it, libtorch included, but not the system's."""
    for each in context.closure.objects:
        if each is context.subject or not context.is_system(each):
            yield each


@rule("text-relocations", Severity.WARNING, "An object has text relocations.")
def text_relocations(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Hardened systems do not let a process write to its code."""
    for each in mapped(context):
        if each.elf.dynamic.textrel:
            name = file_name(each.path)
            yield rule.finding(
                name,
                f"{each.path} has text relocations: the loader writes to its code. SELinux and other hardened systems "
                f"forbid that, so {context.name} does not start there; elsewhere the code is not shared between "
                "processes.",
                f"Compile everything that goes into {name} with -fPIC, static libraries included; link with "
                "-Wl,-z,text to have the linker reject text relocations.",
            )


@rule("executable-stack", Severity.WARNING, "An object requests an executable stack.")
def executable_stack(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One such object makes every stack of the process executable."""
    for each in mapped(context):
        if each.elf.exec_stack and each.elf.type in {"exec", "dyn"}:
            name = file_name(each.path)
            yield rule.finding(
                name,
                f"{each.path} requests an executable stack: hardened kernels refuse it (`cannot enable executable "
                "stack`), glibc 2.41 and newer refuse it for libraries loaded with dlopen, such as Python extensions, "
                "and a stack overflow becomes easy to exploit.",
                'Add `.section .note.GNU-stack,"",@progbits` to the assembly file that lacks it, or link with '
                f"-Wl,-z,noexecstack; in a file that is already built: patchelf --clear-execstack {name}.",
            )


@rule("cpu-dependent-search", Severity.WARNING, "Where a library is found depends on the processor.")
def cpu_dependent_search(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Libraries found only in a directory for some processors, and `$PLATFORM` in a search path."""
    system = context.system
    for_this_cpu = [
        each
        for each in context.closure.objects[1:]
        if each.found_via.kind != "loaded" and is_for_some_cpu(each)
    ]
    if for_this_cpu:
        from torchlink.binary.loader import resolve

        other = resolve(
            context.subject.file,
            system=system.for_any_cpu(),
            environment=context.options.environment,
            secure=context.closure.secure,
        )
        missing = {edge.name for edge in other.missing}
        for each in for_this_cpu:
            if each.name in missing:
                legacy = "/glibc-hwcaps/" not in each.path
                since = " before 2.37" if legacy else ""
                yield rule.finding(
                    each.path,
                    f"{context.name} finds {each.name} only in {real_dir(each)}, which glibc{since} searches only on "
                    f"some processors: on others{', and with newer glibc,' if legacy else ''} it does not start.",
                    "Put a build that runs on every processor into the directory above.",
                    (f"{each.path}: {each.found_via}",),
                )
    for entry in context.once(all_entries):
        if system.family == "glibc" and re.search(r"\$(PLATFORM\b|\{PLATFORM\})", entry.text):
            kinds = "x86_64, haswell or xeon_phi, depending on the processor and the glibc version"
            varies = (
                kinds
                if context.subject.elf.machine in {"x86_64", "x32"}
                else "a name that depends on the processor"
            )
            yield rule.finding(
                entry.text,
                f"The {entry.kind.upper()} of {file_name(entry.owner.path)} contains {entry.text}: $PLATFORM expands "
                f"to {varies}. Here it expands to {system.platform or 'nothing'}, so the loader searches "
                f"{entry.directory}.",
                "Write the directory out, or use $LIB if the system's library directory is meant.",
            )


def is_for_some_cpu(each: LoadedObject) -> bool:
    """Whether an object was found in a subdirectory that is searched only on some processors."""
    directory = each.path.rpartition("/")[0]
    return "/glibc-hwcaps/" in directory or directory.rpartition("/")[2] in LEGACY_NAMES


C_LIBRARY = (c_library_mismatch,)
MACHINE = (wrong_architecture, text_relocations, executable_stack, cpu_dependent_search)
