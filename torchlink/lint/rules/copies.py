"""Rules about things that a process must have once: libtorch, an OpenMP runtime, a CUDA."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.libtorch.names import CUDA_NUMBERED, CUDA_OTHERS
from torchlink.lint.context import file_name, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.libtorch_names import mixed
from torchlink.lint.text.closure import Unseen
from torchlink.lint.unused import EDGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule

# auditwheel and delvewheel put a hash behind the name of a library that they copy into a wheel.
COPIED = r"-[0-9a-f]{6,}(?=[.-]|$)"
# Functions that these libraries define under either C++ ABI, in every version: no template, no inline, no data
# (data that a program refers to is copied into it and then counts as defined there).
OWN_SYMBOLS = {
    "c10": "_ZN3c1010TensorImpl17release_resourcesEv",
    "torch_cpu": "_ZN2at13globalContextEv",
}
OPENMP = r"lib(gomp|omp|iomp5|libomp)[.-]"
OPENMP_ENTRY = ("omp_get_max_threads", "GOMP_parallel", "__kmpc_fork_call")
CUDA = r"lib(\w+?)\.so\.(\d+)"
SHOWN = 5  # symbols in a finding's evidence


def files(objects: list[LoadedObject]) -> list[LoadedObject]:
    """Those of different files; one file reached by two names is one."""
    return list({each.real_path: each for each in objects}.values())


@rule("duplicate-libtorch", Severity.ERROR, "Two copies of one libtorch library in one process.")
def duplicate_libtorch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Copies are known by what they define, so one that was renamed or packed into a wheel counts too."""
    for name, symbol in OWN_SYMBOLS.items():
        objects = files(
            [each for each in context.closure.objects if looks_like(each, name) and each.elf.defines(symbol)]
        )
        if len(objects) > 1:
            paths = tuple(each.real_path for each in objects)
            yield rule.finding(
                f"lib{name}",
                f"{context.name} would load {len(paths)} copies of lib{name}: {', '.join(paths)}. Each has its own "
                "registry of operators and types; the process dies while it starts, or tensors of one are "
                "unknown to the other.",
                "Make every search path of the closure lead to one libtorch, and build all parts against it.",
                tuple(f"{each.real_path}: {each.found_via}, needed by {each.needed_by}" for each in objects),
            )


@rule("mixed-libtorch", Severity.ERROR, "Libraries of two builds of libtorch in one process.")
def mixed_libtorch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for the closure: a library of one build needs functions that its neighbour of another lacks.

    Whole libraries that lie apart and fit are of one build; that each is there only once says nothing.
    """
    symbols = context.once(mixed)
    if not symbols:
        return
    libraries = [each for objects in context.torch.values() for each in objects]
    places = [
        f"{', '.join(file_name(each.path) for each in libraries if real_dir(each) == directory)} from {directory}"
        for directory in context.torch_dirs
    ]
    users = sorted({file_name(symbol.object) for symbol in symbols})
    need = "needs" if len(users) == 1 else "need"
    functions = f"{len(symbols)} of libtorch's functions" if len(symbols) > 1 else "a function of libtorch"
    if len(libraries) > 1:
        message = (
            f"{context.name} would load libraries of different builds of libtorch: {'; '.join(places)}. "
            f"{', '.join(users)} {need} {functions} that no other defines: {context.name} fails at start or at the "
            "first call."
        )
    else:  # all that the loader's own error tells
        message = (
            f"{', '.join(places)} meets libraries of another build of libtorch: it needs {functions} that none of "
            "them defines, and the program fails at start or at the first call."
        )
    yield rule.finding(
        " + ".join(users),
        message,
        "Make every search path of the closure, and LD_LIBRARY_PATH, lead to one libtorch, and build all parts "
        "against it.",
        (
            *(symbol.symbol for symbol in symbols[:SHOWN]),
            *(
                f"{each.real_path}: {each.found_via}, needed by {each.needed_by}"
                for each in libraries
                if each.needed_by
            ),
        ),
    )


def looks_like(each: LoadedObject, name: str) -> bool:
    """Whether an object is that library itself, renamed or not, rather than a program that swallowed it."""
    own = re.sub(COPIED, "", file_name(each.real_path))
    return own.startswith(f"lib{name}.") or (each.elf.dynamic.soname or "").startswith(f"lib{name}")


@rule("static-libtorch-copy", Severity.ERROR, "A static copy of libtorch beside the shared one.")
def static_libtorch_copy(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """An object that defines what libc10 or libtorch_cpu defines, in a closure that holds the library too."""
    for name, symbol in OWN_SYMBOLS.items():
        if name not in context.torch:
            continue
        for each in context.closure.objects:
            if looks_like(each, name) or context.belongs_to_torch(each):
                continue
            if each.elf.defines(symbol):
                yield rule.finding(
                    each.path,
                    f"{each.path} holds a static copy of lib{name}, and its closure loads "
                    f"{context.torch[name][0].path} too: operators and types are registered twice, and the "
                    "process dies while it starts.",
                    f"Link the shared lib{name}.so only: leave lib{name}.a and --whole-archive out of the link.",
                    (symbol,),
                )


@rule("duplicate-openmp", Severity.WARNING, "Two OpenMP runtimes in one process.")
def duplicate_openmp(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """With libtorch it is an error: its thread pools meet in every operator."""
    runtimes = files(
        [
            each
            for each in context.closure.objects
            if re.match(OPENMP, file_name(each.path))
            # Of a file that a text names and this machine does not have, the name must do.
            and (isinstance(each.elf, Unseen) or any(each.elf.defines(entry) for entry in OPENMP_ENTRY))
        ]
    )
    if len(runtimes) > 1:
        names = ", ".join(each.real_path for each in runtimes)
        yield rule.finding(
            " + ".join(sorted(file_name(each.path) for each in runtimes)),
            f"{context.name} would load {len(runtimes)} OpenMP runtimes: {names}. Their thread pools do not know of "
            "each other: it runs slower than with one, hangs after fork, or crashes.",
            "Do not link -lgomp or -fopenmp beside libtorch, which ships its own runtime; if your code needs "
            "OpenMP, compile with -fopenmp and link libtorch's libgomp by its path.",
            tuple(f"{each.real_path}: {each.found_via}, needed by {each.needed_by}" for each in runtimes),
            severity=Severity.ERROR if context.torch else None,
        )


@rule("duplicate-library", Severity.WARNING, "Two copies of one library in one process.")
def duplicate_library(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Of any other library, by the SONAME that the copies had before a wheel's builder renamed one."""
    copies: dict[str, list[LoadedObject]] = {}
    for each in files(list(context.closure.objects)):
        name = re.sub(COPIED, "", each.elf.dynamic.soname or file_name(each.path))
        if not re.match(OPENMP, name) and not any(looks_like(each, known) for known in OWN_SYMBOLS):
            copies.setdefault(name, []).append(each)
    for name, (first, *others) in copies.items():
        again = [each for each in others if overlap(first, each)]
        if not again:
            continue
        paths = tuple(each.real_path for each in (first, *again))
        yield rule.finding(
            name,
            f"{context.name} would load {len(paths)} copies of {name}: {', '.join(paths)}. Functions of the "
            "first serve "
            "both, with the data of either: what one opens, allocates or registers the other does not know.",
            "Link and bundle it once: leave it out of the wheel or bundle that brought the renamed copy "
            "(auditwheel repair --exclude), or make every search path lead to one.",
            tuple(
                f"{each.real_path}: {each.found_via}, needed by {each.needed_by}" for each in (first, *again)
            ),
        )


def overlap(one: LoadedObject, other: LoadedObject) -> bool:
    """Whether two libraries define a symbol in common, beside those that linkers and compilers put into each."""
    defined = (
        symbol for symbol in other.elf.dynamic_symbols() if symbol.defined and symbol.binding == "global"
    )
    return any(one.elf.defines(symbol.name) for symbol in defined if symbol.name not in EDGES)


@rule("cuda-major-mix", Severity.ERROR, "CUDA libraries of two major versions in one process.")
def cuda_major_mix(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for the whole closure: cublas of one major version calls the cudart of its own."""
    majors: dict[str, dict[str, str]] = {}
    for each in context.closure.objects:
        match = re.match(CUDA, re.sub(COPIED, "", file_name(each.path)))
        if match and match[1] in (*CUDA_NUMBERED, *CUDA_OTHERS):
            family = "CUDA" if match[1] in CUDA_NUMBERED else match[1]
            majors.setdefault(family, {}).setdefault(match[2], each.path)
    for family, versions in majors.items():
        if len(versions) > 1:
            names = ", ".join(file_name(path) for path in versions.values())
            yield rule.finding(
                family,
                f"{context.name} would load {family} libraries of {len(versions)} major versions ({names}): "
                "each has its "
                "own contexts and handles, and those of one mean nothing to the other.",
                "Build everything against the CUDA that libtorch was built with (`torchlink find --print "
                "accelerator_version`).",
                tuple(
                    f"{each.path}: {each.found_via}, needed by {each.needed_by}"
                    for each in context.closure.objects
                    if each.path in versions.values()
                ),
            )
            return


COPIES = (
    duplicate_libtorch,
    mixed_libtorch,
    static_libtorch_copy,
    duplicate_openmp,
    duplicate_library,
    cuda_major_mix,
)
