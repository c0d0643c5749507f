"""Rules about what is on the link line and should not be, or is not and should be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
from torchlink.lint.unused import IMPLIED, PARTS_OF_LIBC, unused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule

SHOWN = 5  # symbols in a finding's evidence
# Linked without use on purpose, or another rule's: AOTInductor packages open libtorch.so by its name, and it brings
# libtorch_cuda in; the required libraries register kernels.
KEPT = {"torch", *REQUIRED, *TEST_LIBRARIES}
ACCELERATORS = {*REQUIRED, *ACCELERATOR_CORES}
STUBS = r"lib(pthread|dl|rt|util|anl)\.so\.\d$"  # since glibc 2.34 nothing but room for old programs' names


@rule("unused-library", Severity.WARNING, "A library is linked, and nothing of it is used.")
def unused_library(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """By relocations: one finding a library. In a Python extension libtorch's own are another rule's.

    What NVIDIA links into CUDA's own libraries nobody else can leave out.
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
        besides = next((each.needed_by for each in others if each.needed_by != context.subject.path), None)
        if besides is None:
            hurt = "it is loaded at every start, and must be there, with all that it needs, for it to start at all"
        else:
            hurt = (
                f"{file_name(besides)} brings it anyway, but when that no longer does, it must still be there"
            )
        stub = re.match(STUBS, edge.name)
        if stub:
            hurt = "on glibc 2.34 and newer it is empty, and every glibc has it"
        yield rule.finding(
            edge.name,
            f"{context.name} links {edge.name} but uses nothing of it: {hurt} ({library.path}).",
            f"Leave -l{bare} out, or link with -Wl,--as-needed before the libraries.",
            (f"{library.path}: {library.found_via}",),
            severity=None if besides is None and not stub else Severity.NOTE,
        )


@rule(
    "indirect-library", Severity.WARNING, "A library is used but not linked: another one happens to bring it."
)
def indirect_library(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding a library; of libtorch's own some are made to be loaded by others."""
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
        via = f"{file_name(library.needed_by)} brings it" if library.needed_by else "it is loaded first"
        yield rule.finding(
            name,
            f"{context.name} uses {len(symbols)} symbol{'s' * (len(symbols) > 1)} of {name} without linking "
            "it: it works "
            f"only as long as {via}, and with another version of that it fails at start or at the first call.",
            f"Add -l{bare_name(name)} to the link line of {context.name}.",
            symbols[:SHOWN],
        )


@rule("test-library-linked", Severity.WARNING, "One of libtorch's test libraries is linked.")
def test_library_linked(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding an object: who links all of libtorch's lib/*.so links every one that is there."""
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
                "operators when loaded, and other builds and versions of libtorch do not have such files.",
                f"Leave {' '.join(f'-l{bare_name(name)}' for name in names)} out: name the libraries to link, rather "
                "than all that are in libtorch's lib directory; `torchlink flags --link` prints them.",
            )


@rule("extension-links-libpython", Severity.WARNING, "A Python extension links libpython.")
def extension_links_libpython(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The interpreter that imports it has all of it already."""
    if not context.is_extension:
        return
    lost = {edges[0].name for edges in missing_names(context).get(rule.id, ())}
    for name in context.subject.elf.dynamic.needed:
        if re.match(PYTHON, name):
            here = (
                f" Here it is not found, so importing {context.name} fails in such a Python."
                if name in lost
                else ""
            )
            yield rule.finding(
                name,
                f"{context.name} links {name}: a Python that has the library built in (Debian's, conda's, "
                "uv's, those of "
                f"the manylinux images) gets a second interpreter in its process, or fails to import it.{here}",
                f"Leave -l{bare_name(name)} out; in CMake use Python3_add_library(… MODULE) or link Python3::Module "
                "instead of Python3::Python.",
            )


@rule(
    "extension-links-whole-libtorch",
    Severity.NOTE,
    "A Python extension links libraries of libtorch without need.",
)
def extension_links_whole_libtorch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """In Python libtorch is loaded already: nothing is required there. One finding an extension."""
    if not context.is_extension or is_torch_c(context):
        return
    names = [edge.name for edge, _ in unused(context) if bare_name(edge.name) in TORCH_LIBRARIES]
    if names:
        bound = [name for name in names if bare_name(name) in ACCELERATORS]
        hurt = (
            f"with {', '.join(bound)} among them, it can be imported only where torch is a build for that accelerator"
            if bound
            else "it can be imported only where torch has all of these files"
        )
        yield rule.finding(
            context.name,
            f"{context.name} links {', '.join(names)} but uses nothing of them: {hurt}.",
            "Link with -Wl,--as-needed before the libraries, or leave these out; Python has libtorch loaded already.",
            tuple(names),
            severity=Severity.WARNING if bound else None,
        )


def is_torch_c(context: LintContext) -> bool:
    """Whether it is torch's own extension, whose whole purpose is to bring libtorch into Python."""
    return context.subject.elf.defines("PyInit__C") and "torch_python" in {
        bare_name(name) for name in context.subject.elf.dynamic.needed
    }


LINKING = (
    unused_library,
    indirect_library,
    test_library_linked,
    extension_links_libpython,
    extension_links_whole_libtorch,
)
