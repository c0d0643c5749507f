"""Rules about libraries that a process may load only once: libtorch, an OpenMP runtime, CUDA."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.libtorch.names import CUDA_NUMBERED, CUDA_OTHERS
from torchlink.lint.context import file_name, is_unseen, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.torch_symbols import mixed
from torchlink.lint.unused import LINKER_SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule

# auditwheel and delvewheel append a hash to the name of a library that they copy into a wheel.
COPIED = r"-[0-9a-f]{6,}(?=[.-]|$)"
# Functions that every version of these libraries defines, under either C++ ABI. Not templates, inline functions or
# data: a copy relocation makes data that a program refers to count as defined in the program.
OWN_SYMBOLS = {
    "c10": "_ZN3c1010TensorImpl17release_resourcesEv",
    "torch_cpu": "_ZN2at13globalContextEv",
}
OPENMP = r"lib(gomp|omp|iomp5|libomp)[.-]"
OPENMP_ENTRY = ("omp_get_max_threads", "GOMP_parallel", "__kmpc_fork_call")
CUDA = r"lib(\w+?)\.so\.(\d+)"
SHOWN = 5  # symbols in a finding's evidence


def files(objects: list[LoadedObject]) -> list[LoadedObject]:
    """Drop objects whose real path was seen before: one file reached by two names counts once."""
    return list({each.real_path: each for each in objects}.values())


@rule("duplicate-libtorch", Severity.ERROR, "Two copies of one libtorch library in one process.")
def duplicate_libtorch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Copies are recognised by the symbols that they define, so a renamed one counts too."""
    for name, symbol in OWN_SYMBOLS.items():
        objects = files(
            [each for each in context.closure.objects if looks_like(each, name) and each.elf.defines(symbol)]
        )
        if len(objects) > 1:
            paths = tuple(each.real_path for each in objects)
            yield rule.finding(
                f"lib{name}",
                f"{context.name} loads {len(paths)} copies of lib{name}: {', '.join(paths)}. Each copy has its own "
                "registry of operators and types: the process aborts at start, or one copy does not recognise the "
                "tensors of the other.",
                "Build everything against one libtorch, and make every search path of the closure lead to it.",
                tuple(f"{each.real_path}: {each.found_via}, needed by {each.needed_by}" for each in objects),
            )


@rule("mixed-libtorch", Severity.ERROR, "Libraries from two builds of libtorch in one process.")
def mixed_libtorch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for the closure: a library of one build needs functions that those of another build lack.

    Libraries in different directories are fine as long as their symbols resolve.
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
    functions = f"{len(symbols)} functions of libtorch" if len(symbols) > 1 else "a function of libtorch"
    if len(libraries) > 1:
        message = (
            f"{context.name} loads libraries from different builds of libtorch: {'; '.join(places)}. "
            f"{', '.join(users)} {need} {functions} that none of the others defines: {context.name} fails at start or "
            "at the first call."
        )
    else:  # the loader's error names only one library
        message = (
            f"{', '.join(places)} is loaded with libraries from another build of libtorch: it needs {functions} that "
            "none of them defines, and the program fails at start or at the first call."
        )
    yield rule.finding(
        " + ".join(users),
        message,
        "Build everything against one libtorch, and make every search path of the closure and LD_LIBRARY_PATH lead to "
        "it.",
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
    """Whether an object is that library, possibly renamed, rather than a program that contains it."""
    own = re.sub(COPIED, "", file_name(each.real_path))
    return own.startswith(f"lib{name}.") or (each.elf.dynamic.soname or "").startswith(f"lib{name}")


@rule("static-libtorch-copy", Severity.ERROR, "A static copy of libtorch in addition to the shared one.")
def static_libtorch_copy(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """An object defines symbols of libc10 or libtorch_cpu, and its closure contains that library as well."""
    for name, symbol in OWN_SYMBOLS.items():
        if name not in context.torch:
            continue
        for each in context.closure.objects:
            if looks_like(each, name) or context.belongs_to_torch(each):
                continue
            if each.elf.defines(symbol):
                yield rule.finding(
                    each.path,
                    f"{each.path} contains a static copy of lib{name}, and {context.torch[name][0].path} is loaded as "
                    "well: operators and types are registered twice, and the process aborts at start.",
                    f"Link only the shared lib{name}.so: remove lib{name}.a and --whole-archive from the link line.",
                    (symbol,),
                )


@rule("duplicate-openmp", Severity.WARNING, "Two OpenMP runtimes in one process.")
def duplicate_openmp(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """An error where libtorch is loaded: its operators run on both thread pools."""
    runtimes = files(
        [
            each
            for each in context.closure.objects
            if re.match(OPENMP, file_name(each.path))
            # A file that a text names and this machine lacks is recognised by its name.
            and (is_unseen(each) or any(each.elf.defines(entry) for entry in OPENMP_ENTRY))
        ]
    )
    if len(runtimes) > 1:
        names = ", ".join(each.real_path for each in runtimes)
        yield rule.finding(
            " + ".join(sorted(file_name(each.path) for each in runtimes)),
            f"{context.name} loads {len(runtimes)} OpenMP runtimes: {names}. Each has its own thread pool, unaware of "
            "the other's: too many threads, hangs after fork, or crashes.",
            "Do not link with -lgomp or -fopenmp: libtorch ships its own runtime. If your code uses OpenMP, compile "
            "with -fopenmp and link libtorch's libgomp by its path.",
            tuple(f"{each.real_path}: {each.found_via}, needed by {each.needed_by}" for each in runtimes),
            severity=Severity.ERROR if context.torch else None,
        )


@rule("duplicate-library", Severity.WARNING, "Two copies of one library in one process.")
def duplicate_library(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Any other library, compared by the SONAME that the copies had before a wheel's builder renamed one."""
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
            f"{context.name} loads {len(paths)} copies of {name}: {', '.join(paths)}. Calls bind to the first copy, "
            "but each has its own data: one copy does not know what the other has opened, allocated or registered.",
            "Ship one copy: exclude it from the wheel or bundle that contains the renamed copy (auditwheel repair "
            "--exclude), or make every search path lead to the same file.",
            tuple(
                f"{each.real_path}: {each.found_via}, needed by {each.needed_by}" for each in (first, *again)
            ),
        )


def overlap(one: LoadedObject, other: LoadedObject) -> bool:
    """Whether two libraries define a common symbol other than those that every linker and compiler adds."""
    defined = (
        symbol for symbol in other.elf.dynamic_symbols() if symbol.defined and symbol.binding == "global"
    )
    return any(one.elf.defines(symbol.name) for symbol in defined if symbol.name not in LINKER_SYMBOLS)


@rule("cuda-major-mix", Severity.ERROR, "CUDA libraries of two major versions in one process.")
def cuda_major_mix(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for the whole closure: the libraries of each major version load each other."""
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
                f"{context.name} loads {family} libraries of {len(versions)} major versions ({names}): each has its "
                "own contexts and handles, and those of one are invalid in the other.",
                "Build everything with the CUDA version that libtorch was built with: `torchlink find --print "
                "accelerator_version` prints it.",
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
