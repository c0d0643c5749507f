"""Rules about libraries that are linked but should not be, and about those that should be but are not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.names import (
    ACCELERATOR_CORES,
    NVIDIA,
    REQUIRED,
    TEST_LIBRARIES,
    TORCH_LIBRARIES,
    bare_name,
)
from torchlink.lint.context import file_name
from torchlink.lint.finding import Severity, rule
from torchlink.lint.missing import PYTHON, missing_names, registers
from torchlink.lint.rules.symbols import no_as_needed_flags
from torchlink.lint.torch_symbols import accelerator_of, unlinked
from torchlink.lint.unused import IMPLIED, PARTS_OF_LIBC, unused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule

SHOWN = 5  # symbols in a finding's evidence
ANY_HOOKS = rb"_ZN2at6detail\d+get\w+HooksEv"
# Linked on purpose although unused, or reported by another rule: AOTInductor packages open libtorch.so by name, and it
# loads libtorch_cuda; the required libraries register kernels.
KEPT = {"torch", *REQUIRED, *TEST_LIBRARIES}
ACCELERATOR_LIBRARIES = {*REQUIRED, *ACCELERATOR_CORES}
STUBS = r"lib(pthread|dl|rt|util|anl)\.so\.\d$"  # since glibc 2.34 empty, kept for old programs


class RequestedAccelerator(NamedTuple):
    """How to recognise a binary that uses an accelerator."""

    library: str  # bare name of what must be loaded
    name: str
    device: bytes  # as in torch::Device("cuda:0")
    symbols: bytes  # a pattern: functions that only its users call
    hooks: bytes  # called by at::hasCUDA, and together with all others by torch::manual_seed


ACCELERATORS = (
    RequestedAccelerator(
        "torch_cuda",
        "CUDA",
        b"cuda",
        rb"_ZNK?(5torch|3c10|2at)4cuda",
        b"_ZN2at6detail12getCUDAHooksEv",
    ),
    RequestedAccelerator(  # a ROCm build calls its devices cuda
        "torch_hip",
        "ROCm",
        b"cuda",
        rb"_ZNK?(5torch|3c10|2at)(4cuda|3hip)",
        b"_ZN2at6detail12getCUDAHooksEv",
    ),
    RequestedAccelerator(
        "torch_xpu",
        "XPU",
        b"xpu",
        rb"_ZNK?(5torch|3c10|2at)3xpu",
        b"_ZN2at6detail11getXPUHooksEv",
    ),
)


@rule("load-bearing-lost", Severity.ERROR, "CUDA is used, but the linker has dropped libtorch_cuda.")
def load_bearing_lost(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """libtorch_cuda registers itself when it is loaded: no symbol references it, so the linker drops it.

    Python extensions are left out, because Python has loaded it, and so are programs that contain its file name, as
    those load it with dlopen.
    """
    if context.is_extension or not context.complete:
        return
    siblings = {bare_name(name): name for name in context.torch_siblings}
    for accelerator in ACCELERATORS:
        if accelerator.library not in siblings:
            continue
        if accelerator.library in map(accelerator_of, unlinked(context)):
            continue  # the fix of `torch-library-not-linked` adds both
        library = siblings[accelerator.library]
        users = [each for each in context.own if not context.belongs_to_torch(each)]
        if any(each.elf.find_in_section(".rodata", library.encode(), 0, 0) for each in users):
            continue
        signs = {
            file_name(each.path): sign for each in users if (sign := sign_of_use(each, accelerator, context))
        }
        fix = f"Link with {no_as_needed_flags(accelerator.library)}, as `torchlink flags --link` prints it."
        if signs:
            use = "uses" if len(signs) == 1 else "use"
            yield rule.finding(
                library,
                f"{', '.join(signs)} {use} {accelerator.name}, but nothing loads libtorch's {library}: no symbol "
                f"references it, so a linker with --as-needed drops it. {accelerator.name} is reported as not "
                "available, and moving a tensor to the device throws.",
                fix,
                tuple(signs.values()),
                severity=None if context.is_program else Severity.WARNING,
            )
        elif context.is_program:
            yield rule.finding(
                library,
                f"{context.name} does not load {library}, which this libtorch has: it runs on the CPU only. Whether "
                f"it is meant to use {accelerator.name} cannot be determined: a device given as a constant leaves no "
                "trace in the binary.",
                f"If it is meant for the CPU, ignore this. Otherwise l{fix[1:]}",
                severity=Severity.NOTE,
            )


def sign_of_use(each: LoadedObject, accelerator: RequestedAccelerator, context: LintContext) -> str | None:
    """Return the symbol, or else the device name, that shows that an object uses an accelerator."""
    imports = context.imports(each)
    used = min(filter(re.compile(accelerator.symbols).match, imports), default=None)
    if used is not None:
        return used.decode("utf-8", "replace")
    hooks = set(filter(re.compile(ANY_HOOKS).match, imports))
    if hooks == {accelerator.hooks}:
        return accelerator.hooks.decode()
    if any(device_in(each, section, accelerator.device) for section in (".rodata", ".text")):
        return f'the device name "{accelerator.device.decode()}"'
    return None


def device_in(each: LoadedObject, section: str, device: bytes) -> bool:
    """Whether a section contains a device name: as a whole string, or in .text as an instruction's immediate."""
    if section == ".text":  # compilers store short strings by immediates; three letters may occur by chance
        return len(device) > 3 and each.elf.find_in_section(section, device, 0, 0) is not None
    whole = (b"\0" + device + b"\0", b"\0" + device + b":")
    return any(each.elf.find_in_section(section, needle, 0, 0) is not None for needle in whole)


@rule("unused-library", Severity.WARNING, "A library is linked but not used.")
def unused_library(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per library to which no relocation binds.

    `extension-links-whole-libtorch` covers libtorch's libraries in a Python extension. NVIDIA's own libraries are left
    out: nobody else can relink them.
    """
    if re.match(rf"({NVIDIA}|libcuda)\w*\.so\.\d", context.name):
        return
    for edge, library in unused(context):
        bare = bare_name(edge.name)
        if bare in KEPT or (context.is_extension and bare in TORCH_LIBRARIES):
            continue
        if library is context.subject or registers(library, context):  # an empty name is the program itself
            continue
        others = (each for each in context.closure.edges if each.path == library.path)
        other_user = next((each.needed_by for each in others if each.needed_by != context.subject.path), None)
        if other_user is None:
            effect = (
                "it is loaded at every start, and the program fails to start without it or anything it needs"
            )
        else:
            effect = (
                f"{file_name(other_user)} needs it too, but should that change, it must still be installed"
            )
        stub = re.match(STUBS, edge.name)
        if stub:
            effect = "it is empty in glibc 2.34 and newer, and every glibc has it"
        yield rule.finding(
            edge.name,
            f"{context.name} links {edge.name} but uses nothing from it: {effect} ({library.path}).",
            f"Remove -l{bare}, or put -Wl,--as-needed before the libraries on the link line.",
            (f"{library.path}: {library.found_via}",),
            severity=None if other_user is None and not stub else Severity.NOTE,
        )


@rule(
    "indirect-library", Severity.WARNING, "A library is used but not linked: another one happens to load it."
)
def indirect_library(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per library. Libtorch's own libraries are not checked: some rely on being loaded by others."""
    if not context.complete or context.belongs_to_torch(context.subject):
        return
    for path, symbols in context.scope.used_but_not_needed(context.subject.path).items():
        library = context.closure.object(path)
        if library is None:
            continue
        name = library.elf.dynamic.soname or file_name(path)
        of_libc = re.match(IMPLIED, name) or re.match(PARTS_OF_LIBC, name)
        if of_libc or "san.so" in name or (context.is_extension and re.match(PYTHON, name)):
            continue
        via = (
            f"as {file_name(library.needed_by)} needs it too"
            if library.needed_by
            else "as something else loads it first"
        )
        yield rule.finding(
            name,
            f"{context.name} uses {len(symbols)} symbol{'s' * (len(symbols) > 1)} of {name} without linking it: it "
            f"works only as long {via}, and otherwise fails at start or at the first call.",
            f"Add -l{bare_name(name)} to the link line of {context.name}.",
            symbols[:SHOWN],
        )


@rule("test-library-linked", Severity.WARNING, "One of libtorch's test libraries is linked.")
def test_library_linked(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per object: linking all of libtorch's lib/*.so links every test library in it."""
    if bare_name(context.name) in TEST_LIBRARIES:
        return
    for each in context.own:
        names = [name for name in each.elf.dynamic.needed if bare_name(name) in TEST_LIBRARIES]
        if names:
            one = len(names) == 1
            what = "a library" if one else "libraries"
            they = "it registers" if one else "they register"
            yield rule.finding(
                " + ".join(names),
                f"{file_name(each.path)} links {', '.join(names)}, {what} of libtorch's own tests: {they} test "
                "operators when loaded, and most builds of libtorch do not ship such files.",
                f"Remove {' '.join(f'-l{bare_name(name)}' for name in names)}: link only the libraries that `torchlink "
                "flags --link` prints, not everything in libtorch's lib directory.",
            )


@rule("extension-links-libpython", Severity.WARNING, "A Python extension links libpython.")
def extension_links_libpython(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The interpreter that imports the extension provides all of its symbols."""
    if not context.is_extension:
        return
    missing = {edges[0].name for edges in missing_names(context).get(rule.id, ())}
    for name in context.subject.elf.dynamic.needed:
        if re.match(PYTHON, name):
            here = (
                f" It is not found here, so importing {context.name} fails in such a Python."
                if name in missing
                else ""
            )
            yield rule.finding(
                name,
                f"{context.name} links {name}: a statically linked Python (Debian's, conda's, uv's, the manylinux "
                f"images') gets a second interpreter in its process, or fails to import {context.name}.{here}",
                f"Remove -l{bare_name(name)}; in CMake use Python3_add_library(… MODULE) or link Python3::Module "
                "instead of Python3::Python.",
            )


@rule(
    "extension-links-whole-libtorch",
    Severity.NOTE,
    "A Python extension links libraries of libtorch that it does not use.",
)
def extension_links_whole_libtorch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per extension. Python has libtorch loaded, so no library must be linked for its side effects."""
    if not context.is_extension or is_torch_c(context):
        return
    names = [edge.name for edge, _ in unused(context) if bare_name(edge.name) in TORCH_LIBRARIES]
    if names:
        bound = [name for name in names if bare_name(name) in ACCELERATOR_LIBRARIES]
        effect = (
            f"because of {', '.join(bound)}, it can be imported only with a torch built for that accelerator"
            if bound
            else "it can be imported only with a torch that has all of these files"
        )
        yield rule.finding(
            context.name,
            f"{context.name} links {', '.join(names)} but uses nothing from them: {effect}.",
            "Remove them from the link line, or put -Wl,--as-needed before the libraries: Python has already loaded "
            "libtorch.",
            tuple(names),
            severity=Severity.WARNING if bound else None,
        )


def is_torch_c(context: LintContext) -> bool:
    """Whether the binary is torch's own extension, whose purpose is to load libtorch into Python."""
    return context.subject.elf.defines("PyInit__C") and "torch_python" in {
        bare_name(name) for name in context.subject.elf.dynamic.needed
    }


LINKING = (
    load_bearing_lost,
    unused_library,
    indirect_library,
    test_library_linked,
    extension_links_libpython,
    extension_links_whole_libtorch,
)
