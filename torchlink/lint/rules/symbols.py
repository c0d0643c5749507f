"""Rules about symbols that nothing in the closure defines, and the cause that their names reveal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.libtorch.names import bare_name
from torchlink.libtorch.symbols import TORCH_TYPE
from torchlink.lint.context import PYTHON_NAME, file_name
from torchlink.lint.finding import Severity, rule
from torchlink.lint.missing import GLIBC_PART, other_c_library
from torchlink.lint.torch_symbols import (
    accelerator_of,
    mixed,
    not_linked,
    of_libcxx,
    of_torch,
    other_abi,
    torch_abi,
    torch_c10,
    torch_outside_closure,
    undefined,
    unlinked,
)
from torchlink.shown import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torchlink.binary.bindings import LostVersions, UndefinedSymbol
    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule

# A library directly in a default directory of the loader; a text does not say how a library was found.
DEFAULT_DIR = re.compile(r"(/usr)?/lib(x?32|64)?(/[\w.]+-linux-\w+)?/[^/]+$")
PRIVATE = "GLIBC_PRIVATE"
SHOWN = 5  # symbols in a finding's evidence


def verb(objects: set[str], one: str, many: str) -> str:
    """Return the names of objects with a verb that agrees with their number."""
    return f"{', '.join(sorted(map(file_name, objects)))} {one if len(objects) == 1 else many}"


@rule("abi-mismatch", Severity.ERROR, "Compiled with a different C++ ABI than the libtorch that is loaded.")
def abi_mismatch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding however many symbols show it: the cause is one compile flag."""
    symbols = undefined(context)
    c10 = torch_c10(context)
    if c10 is None or context.once(mixed):
        return
    if evidence := other_abi(symbols, context):
        abi = torch_abi(context)
        yield rule.finding(
            f"_GLIBCXX_USE_CXX11_ABI={abi}",
            f"{verb({symbol.object for symbol in evidence}, 'was', 'were')} compiled with "
            f"_GLIBCXX_USE_CXX11_ABI={1 - (abi or 0)}, but {c10[0]} was built with {abi}: "
            f"{absent(evidence)}, and {context.fails}.",
            f"Compile with -D_GLIBCXX_USE_CXX11_ABI={abi}, as `torchlink flags --compile` prints it, or link a "
            f"libtorch that was built with _GLIBCXX_USE_CXX11_ABI={1 - (abi or 0)}.",
            tuple(symbol.symbol for symbol in evidence[:SHOWN]),
        )
    if evidence := of_libcxx(symbols, context):
        yield rule.finding(
            "libc++",
            f"{verb({symbol.object for symbol in evidence}, 'was', 'were')} compiled with libc++ "
            f"(-stdlib=libc++), but {c10[0]} was built with libstdc++, whose std::string is a different type: "
            f"{absent(evidence)}, and {context.fails}.",
            "Compile and link everything that uses libtorch with -stdlib=libstdc++ and "
            f"-D_GLIBCXX_USE_CXX11_ABI={torch_abi(context)}: no libtorch for Linux is built with libc++.",
            tuple(symbol.symbol for symbol in evidence[:SHOWN]),
        )


def absent(symbols: list[UndefinedSymbol]) -> str:
    """Return a clause: how many symbols libtorch lacks."""
    one = len(symbols) == 1
    return f"{len(symbols)} of the used symbols {'does' if one else 'do'} not exist there"


@rule(
    "header-library-mismatch",
    Severity.ERROR,
    "Compiled against headers of another libtorch version than the one that is loaded.",
)
def header_library_mismatch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Symbols of c10, at or torch are undefined for a reason other than the ABI."""
    symbols = undefined(context)
    # With a wrong ABI, or a mix of two libtorchs, the version cannot be determined.
    if other_abi(symbols, context) or of_libcxx(symbols, context) or context.once(mixed):
        return
    elsewhere = {symbol for group in not_linked(symbols, context).values() for symbol in group}
    evidence = [symbol for symbol in of_torch(symbols, context) if symbol not in elsewhere]
    if not evidence:
        return
    directory = next(
        iter(
            (
                *context.torch_dirs,
                *(elf.name.rpartition("/")[0] for elf in torch_outside_closure(context).values()),
            )
        )
    )
    objects = {symbol.object for symbol in evidence}
    yield rule.finding(
        directory,
        f"{verb(objects, 'uses', 'use')} {len(evidence)} function{'s' * (len(evidence) > 1)} that the libtorch in "
        f"{directory} does not have: {'it was' if len(objects) == 1 else 'they were'} compiled against the headers of "
        f"another version, and {context.fails}.",
        "Rebuild with the headers of the libtorch that is loaded (`torchlink find --print include_dirs`), or make the "
        "search path lead to the libtorch that it was built with.",
        tuple(symbol.symbol for symbol in evidence[:SHOWN]),
    )


@rule("torch-library-not-linked", Severity.ERROR, "Uses a library of libtorch that it does not link.")
def torch_library_not_linked(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for all libraries missing from the link line that are next to libtorch and that nothing loads."""
    used = unlinked(context)
    if not used:
        return
    libraries = sorted(used)
    evidence = [symbol for library in libraries for symbol in used[library]]
    users = verb({symbol.object for symbol in evidence}, "uses", "use")
    outcome = "importing it fails" if context.is_extension else "it fails at start or at the first call"
    if context.imported is not None:
        outcome += (
            ", even after `import torch`: Python loads torch's libraries with RTLD_LOCAL, for torch alone"
        )
        if context.from_text:
            outcome += "; or Python had loaded another version of libtorch, which lacks them"
    yield rule.finding(
        " + ".join(libraries),
        f"{users} functions of {' and '.join(libraries)}, but neither {context.name} nor anything that it loads needs "
        f"{'that library' if len(used) == 1 else 'those libraries'}: {outcome}.",
        fix_of_unlinked(libraries, context),
        tuple(symbol.symbol for symbol in evidence[:SHOWN]),
        # A program that loads a plain library may have loaded the other one; Python loads libtorch with RTLD_LOCAL.
        severity=None if context.is_program or context.is_extension else Severity.WARNING,
    )


def fix_of_unlinked(libraries: Sequence[str], context: LintContext) -> str:
    """Return how to link these libraries. `torchlink flags` prints all of them except libtorch_python."""
    torch_python = next((name for name in libraries if is_torch_python(name)), None)
    if torch_python is None:
        return (
            f"Add {link_flags(libraries, context)} after the objects that use it on the link line; `torchlink flags "
            "--link` prints all flags for libtorch."
        )
    directory = torch_outside_closure(context)[torch_python].name.rpartition("/")[0]
    setup = " setup.py: build it as a torch.utils.cpp_extension.CppExtension, which does so."
    return (
        f"Add {quoted(f'-L{directory}')} {link_flags(libraries, context)} to the link line, in addition to what "
        "`torchlink flags` prints, which omits libtorch_python. CMake: find_library(TORCH_PYTHON_LIBRARY torch_python "
        'HINTS "${TORCH_INSTALL_PREFIX}/lib") and link ${TORCH_PYTHON_LIBRARY}.'
        + setup
        * (not context.is_program)
    )


def link_flags(libraries: Iterable[str], context: LintContext) -> str:
    """Return flags for these libraries, and for libtorch_cuda with one of CUDA's, which a linker would drop again."""
    libraries = tuple(libraries)
    if context.is_extension:  # Python has loaded it
        return " ".join(f"-l{bare_name(name)}" for name in libraries)
    accelerators = {name for name in map(accelerator_of, libraries) if name and name not in context.torch}
    plain = (bare for bare in map(bare_name, libraries) if bare not in accelerators)
    return " ".join([*map(no_as_needed_flags, sorted(accelerators)), *(f"-l{bare}" for bare in plain)])


def no_as_needed_flags(bare: str) -> str:
    """Return the flags that link a library even if no symbol references it."""
    return f"-Wl,--push-state,--no-as-needed,-l{bare},--pop-state"


@rule("undefined-symbol", Severity.ERROR, "A symbol is used that no library of the closure defines.")
def undefined_symbol(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per object; only a note for a library, which may rely on the program that loads it."""
    symbols = undefined(context)
    explained = {symbol.symbol for symbol in of_torch(symbols, context)}
    unexplained: dict[str, list[str]] = {}
    private: dict[str, list[str]] = {}
    for symbol in symbols:
        if symbol.object in context.once(other_c_library):  # `c-library-mismatch` reports it
            continue
        # The interpreter also provides symbols to an extension's libraries, such as libtorch_python; a text may
        # not say what loads that library.
        in_python = not context.is_program or is_torch_python(symbol.object)
        of_python = in_python and re.match(PYTHON_NAME, symbol.symbol)
        if symbol.version == PRIVATE:
            private.setdefault(symbol.object, []).append(symbol.symbol)
        elif symbol.symbol not in explained and not of_python:
            unexplained.setdefault(symbol.object, []).append(symbol.symbol)
    for path, names in private.items():
        yield rule.finding(
            file_name(path),
            f"{file_name(path)} uses internal symbols of glibc ({PRIVATE}), which only the C library of the same build "
            f"has: {context.name} fails at start or at the first call.",
            older_library("libc.so.6", [path], context),
            tuple(names[:SHOWN]),
        )._replace(parts=tuple(names))
    for path, names in unexplained.items():
        name = file_name(path)
        program = context.kind == "executable"
        of_its_own = [each for each in names if re.search(TORCH_TYPE, each)] if context.imported else []
        outcome = (
            "it fails at start, or at the first call of one of them"
            if program
            else "the program that loads it must provide them"
        )
        if context.failed:
            outcome = "importing it has failed"
        if of_its_own:  # nor does the interpreter define them
            outcome = f"{context.fails}; they use libtorch's types but are not libtorch's functions"
        yield rule.finding(
            name,
            f"{name} uses {len(names)} symbol{'s' * (len(names) > 1)} that nothing in its closure defines: "
            f"{outcome}.",
            "Compile the source file that defines them into the extension, or link the library that does."
            if of_its_own
            else "Link the library that defines them; link with -Wl,--no-undefined to catch this at build time.",
            tuple((of_its_own or names)[:SHOWN]),
            severity=None if program or of_its_own or context.failed else Severity.NOTE,
        )._replace(parts=tuple(names))
    if context.from_text and not context.complete:
        yield from undefined_while_missing(rule, context)


def undefined_while_missing(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Report the symbols that a text lists as undefined while libraries are missing, which may define them."""
    other = context.once(other_c_library)
    missing = ", ".join(dict.fromkeys(edge.name for edge in context.closure.missing))
    for each in context.closure.objects:
        names = (
            [] if each.path in other else [one.symbol for one in context.scope.undefined_symbols(each.path)]
        )
        if names:
            name = file_name(each.path)
            yield rule.finding(
                name,
                f"{name} uses {len(names)} symbol{'s' * (len(names) > 1)} that none of the libraries found defines; "
                f"{missing}, not found, may define {'them' if len(names) > 1 else 'it'}.",
                "Fix the missing libraries first, then lint again.",
                tuple(names[:SHOWN]),
                severity=Severity.NOTE,
            )._replace(parts=tuple(names))


def is_torch_python(path: str) -> bool:
    """Whether an object is libtorch_python, which only Python loads."""
    return bare_name(file_name(path)) == "torch_python"


@rule("symbol-version-missing", Severity.ERROR, "A library is older than the one that was linked.")
def symbol_version_missing(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per library: the loader stops with `version … not found (required by …)`.

    Where the library has no versions at all, it stops when the first of its symbols is looked up.
    """
    lacking: dict[str, dict[str, list[str]]] = {}
    for missing in context.missing_versions:
        if not missing.weak:
            needing = lacking.setdefault(missing.provider, {})
            needing.setdefault(missing.version, []).append(file_name(missing.object))
    for provider, versions in lacking.items():
        users = sorted({user for users in versions.values() for user in users})
        need = "needs" if len(users) == 1 else "need"
        yield rule.finding(
            provider,
            f"{provider} lacks {', '.join(versions)}, which {', '.join(users)} {need}: {context.name} does not start.",
            older_library(
                provider,
                [each.object for each in context.missing_versions if each.provider == provider],
                context,
            ),
            tuple(f"{version}: needed by {', '.join(users)}" for version, users in versions.items()),
        )._replace(parts=tuple(versions))
    if context.system.family != "musl":
        yield from without_versions(rule, context)


def older_library(provider: str, users: list[str], context: LintContext) -> str:
    """Return the fix for a library that lacks symbol versions.

    The parts of glibc must match: the fix for a stray copy of one is to delete it, not to replace it.
    """
    copies = [
        each.path
        for path in dict.fromkeys((provider, *users))
        if (each := context.closure.object(path))
        and re.match(GLIBC_PART, file_name(path))
        and is_stray_copy(each, context)
    ]
    if copies:
        names = " ".join(map(quoted, copies))
        return (
            f"Delete the cop{'y' if len(copies) == 1 else 'ies'} of a part of glibc: rm {names}. The parts of glibc "
            "work only with each other and with their own loader, and every system has them."
        )
    if re.match(GLIBC_PART, file_name(provider)):
        return (
            "Build on a system whose glibc is no newer than that of the system it will run on, or run it on a newer "
            f"system: a newer {file_name(provider)} next to the binary does not work with the system's loader."
        )
    return (
        f"Build on a system whose {file_name(provider)} is no newer than that of the system it will run on, or ship "
        "the newer library with it (conda's or GCC's runtime, ahead of the system's in the search path)."
    )


def is_stray_copy(each: LoadedObject, context: LintContext) -> bool:
    """Whether a part of glibc was found somewhere other than where the system has its own."""
    return (
        each.found_via.kind != "interpreter"
        and not context.is_system(each)
        and not DEFAULT_DIR.match(each.path)
    )


def without_versions(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per library without symbol versions where the binary was linked to a build that had some."""
    unversioned: dict[str, list[LostVersions]] = {}
    for each in context.scope.lost_versions():
        unversioned.setdefault(each.provider, []).append(each)
    for provider, group in unversioned.items():
        users = ", ".join(dict.fromkeys(file_name(each.object) for each in group))
        were = "was" if len(group) == 1 else "were"
        versions = ", ".join(dict.fromkeys(version for each in group for version in each.versions))
        bound = [name for each in group for name in each.symbols]
        outcome = (
            "glibc stops with a failed assertion in `check_match` when it looks up the first of them"
            if bound
            else "the loader prints `no version information available` at every start, and binds to any version"
        )
        yield rule.finding(
            provider,
            f"{provider} has no symbol versions, but {users} {were} linked against a build of it with {versions}: "
            f"{outcome}.",
            f"Install the build of {file_name(provider)} that it was linked against (with the version script), or "
            f"relink {users} with this one.",
            tuple(bound[:SHOWN]),
            severity=None if bound else Severity.WARNING,
        )


SYMBOLS = (
    abi_mismatch,
    header_library_mismatch,
    torch_library_not_linked,
    undefined_symbol,
    symbol_version_missing,
)
