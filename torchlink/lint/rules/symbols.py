"""Rules about symbols that nothing in the closure serves, and what their names tell about the reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.lint.case import PYTHON_NAME, bare_name, file_name
from torchlink.lint.finding import Severity
from torchlink.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.bindings import LostVersions, UndefinedSymbol
    from torchlink.lint.case import Case
    from torchlink.lint.finding import Finding
    from torchlink.lint.rule import Rule

# Functions, constants, vtables and type infos of libtorch's namespaces, in Itanium mangling.
TORCH_NAME = r"_Z(T[VISTC])?(NK?|)(3c10|2at|5torch|6caffe2)\w"
NEW_STRING = r"7__cxx11|B5cxx11"
LENGTH = r"[1-9]\d{0,3}"
SHOWN = 5  # symbols in a message's evidence; more would hide the rest


def mends(objects: set[str], one: str, many: str) -> str:
    """Which objects are to be built anew, with the verb that fits their number."""
    return f"{', '.join(sorted(map(file_name, objects)))} {one if len(objects) == 1 else many}"


def undefined(case: Case) -> list[UndefinedSymbol]:
    """What stays undefined in the user's own objects for another reason than that a library is too old.

    Of that `symbol-version-missing` speaks.
    """
    if not case.undefined:
        return []
    lacking = {(missing.object, missing.version) for missing in case.missing_versions}
    return [symbol for symbol in case.undefined if (symbol.object, symbol.version) not in lacking]


def of_torch(symbols: list[UndefinedSymbol], case: Case) -> list[UndefinedSymbol]:
    """Those that a libtorch would serve, where the closure has one."""
    return [symbol for symbol in symbols if case.torch and re.match(TORCH_NAME, symbol.symbol)]


def other_abi(symbols: list[UndefinedSymbol], case: Case) -> list[UndefinedSymbol]:
    """Those whose std::string is not the one of the libtorch in the closure."""
    abi = torch_abi(case)
    if abi is None:
        return []
    return [symbol for symbol in of_torch(symbols, case) if abi_of(symbol.symbol, case) == 1 - abi]


def abi_of(mangled: str, case: Case) -> int | None:
    """The C++ ABI that a mangled name tells by its std::string, None where it tells nothing.

    `Ss` is the old string, `__cxx11` and the tag `B5cxx11` are the new one. What only returns a string
    carries no mark under the old ABI: there libtorch's having the same name with the tag tells.
    """
    if re.search(NEW_STRING, mangled):
        return 1
    tagged, grammar, at = [], "", 0
    number = re.compile(LENGTH)
    # An identifier stands behind its length, and may hold an `Ss`.
    while length := number.search(mangled, at):
        grammar += mangled[at : length.start()] + " "
        at = length.end() + int(length.group())
        tagged.append(f"{mangled[:at]}B5cxx11{mangled[at:]}")
    if "Ss" in grammar + mangled[at:]:
        return 0
    libraries = [each.elf for objects in case.torch.values() for each in objects]
    libraries += case.torch_siblings.values()
    return 0 if any(elf.defines(name) for name in tagged for elf in libraries) else None


def torch_abi(case: Case) -> int | None:
    """The C++ ABI of the libtorch in the closure, None without one."""
    c10 = case.torch.get("c10")
    if c10 is None:
        return None
    from torchlink.libtorch.abi import c10_abi

    return c10_abi(c10[0].elf)[0]


@rule("abi-mismatch", Severity.ERROR, "Compiled with another C++ ABI than the libtorch that would be loaded.")
def abi_mismatch(rule: Rule, case: Case) -> Iterator[Finding]:
    """One finding however many symbols tell it: the cause is one compile flag."""
    telling = other_abi(undefined(case), case)
    if not telling:
        return
    abi = torch_abi(case)
    c10 = case.torch["c10"][0]
    yield rule.finding(
        f"_GLIBCXX_USE_CXX11_ABI={abi}",
        f"{mends({symbol.object for symbol in telling}, 'was', 'were')} compiled with "
        f"_GLIBCXX_USE_CXX11_ABI={1 - (abi or 0)}, but {c10.path} was built with {abi}: {len(telling)} of "
        f"the symbols that are used do not exist there, and {case.name} fails at start or at the first call.",
        f"Compile with -D_GLIBCXX_USE_CXX11_ABI={abi}, as `torchlink flags --compile` prints it, or link a "
        f"libtorch that was built with ABI {1 - (abi or 0)}.",
        tuple(symbol.symbol for symbol in telling[:SHOWN]),
    )


@rule(
    "header-library-mismatch",
    Severity.ERROR,
    "Uses functions of libtorch that the libtorch that would be loaded does not have.",
)
def header_library_mismatch(rule: Rule, case: Case) -> Iterator[Finding]:
    """Symbols of c10, at or torch that are undefined for another reason than the ABI."""
    symbols = undefined(case)
    if other_abi(symbols, case):  # beside a wrong ABI nothing can be said of versions
        return
    unlinked = {symbol for symbols in not_linked(symbols, case).values() for symbol in symbols}
    telling = [symbol for symbol in of_torch(symbols, case) if symbol not in unlinked]
    if not telling:
        return
    directory = case.torch_dirs[0]
    objects = {symbol.object for symbol in telling}
    yield rule.finding(
        directory,
        f"{mends(objects, 'uses', 'use')} {len(telling)} of libtorch's functions that "
        f"the one in {directory} does not have: {'it was' if len(objects) == 1 else 'they were'} compiled "
        f"against another version's headers, and {case.name} fails at start or at the first call.",
        "Build again with the headers of the libtorch that will be loaded (`torchlink find --print "
        "include_dirs`), or make the search path lead to the one it was built with.",
        tuple(symbol.symbol for symbol in telling[:SHOWN]),
    )


@rule("torch-library-not-linked", Severity.ERROR, "Uses a library of libtorch that it does not link.")
def torch_library_not_linked(rule: Rule, case: Case) -> Iterator[Finding]:
    """One finding a library: it lies beside the others, and nothing brings it into the closure.

    Libtorch's own libraries are loaded by one that has brought the others.
    """
    if case.belongs_to_torch(case.subject):
        return
    for library, symbols in not_linked(undefined(case), case).items():
        users = mends({symbol.object for symbol in symbols}, "uses", "use")
        bare = bare_name(library)
        yield rule.finding(
            library,
            f"{users} functions of {library}, but nothing in the closure of {case.name} loads that library: "
            "it fails at start or at the first call.",
            f"Add -l{bare} behind what uses it on the link line; `torchlink flags --link` prints the whole of it.",
            tuple(symbol.symbol for symbol in symbols[:SHOWN]),
            # A program that loads a plain library may have that one loaded; Python keeps libtorch to itself.
            severity=None if case.is_program or case.is_extension else Severity.WARNING,
        )


def not_linked(symbols: list[UndefinedSymbol], case: Case) -> dict[str, list[UndefinedSymbol]]:
    """Undefined symbols that a libtorch library outside the closure defines, by its file name."""
    found: dict[str, list[UndefinedSymbol]] = {}
    for symbol in of_torch(symbols, case):
        for name, elf in case.torch_siblings.items():
            if elf.defines(symbol.symbol):
                found.setdefault(name, []).append(symbol)
                break
    return found


@rule("undefined-symbol", Severity.ERROR, "A symbol that no library of the closure defines.")
def undefined_symbol(rule: Rule, case: Case) -> Iterator[Finding]:
    """One finding an object. A library may rely on the program that loads it: there it is only a note."""
    symbols = undefined(case)
    explained = {symbol.symbol for symbol in of_torch(symbols, case)}
    asking: dict[str, list[str]] = {}
    for symbol in symbols:
        # The interpreter serves an extension's own libraries, such as libtorch_python, as it does the extension.
        of_python = not case.is_program and re.match(PYTHON_NAME, symbol.symbol)
        if symbol.symbol not in explained and not of_python:
            asking.setdefault(symbol.object, []).append(symbol.symbol)
    for path, names in asking.items():
        name = file_name(path)
        program = case.kind == "executable"
        outcome = (
            "it fails at start, or at the first call of one of them"
            if program
            else "whoever loads it must bring them"
        )
        yield rule.finding(
            name,
            f"{name} uses {len(names)} symbol{'s' * (len(names) > 1)} that nothing in its closure defines: "
            f"{outcome}.",
            "Link the library that defines them, and link with -Wl,--no-undefined to see this at build time.",
            tuple(names[:SHOWN]),
            severity=None if program else Severity.NOTE,
        )._replace(parts=tuple(names))


@rule("symbol-version-missing", Severity.ERROR, "A library is older than what was linked against.")
def symbol_version_missing(rule: Rule, case: Case) -> Iterator[Finding]:
    """One finding a library: the loader refuses to start with `version … not found (required by …)`.

    Where the library has no versions at all, it fails when the first of its symbols is looked up.
    """
    lacking: dict[str, dict[str, list[str]]] = {}
    for missing in case.missing_versions:
        if not missing.weak:
            asking = lacking.setdefault(missing.provider, {})
            asking.setdefault(missing.version, []).append(file_name(missing.object))
    for provider, versions in lacking.items():
        users = sorted({user for users in versions.values() for user in users})
        need = "needs" if len(users) == 1 else "need"
        yield rule.finding(
            provider,
            f"{provider} lacks {', '.join(versions)}, which {', '.join(users)} {need}: {case.name} will not start.",
            f"Build on a system whose {file_name(provider)} is at most as new as the one it will "
            "run with, or bring the newer library along (a conda or GCC runtime ahead of the system's).",
            tuple(f"{version}: needed by {', '.join(users)}" for version, users in versions.items()),
        )._replace(parts=tuple(versions))
    if case.system.family != "musl":
        yield from without_versions(rule, case)


def without_versions(rule: Rule, case: Case) -> Iterator[Finding]:
    """One finding a library that has no symbol versions any more."""
    lost: dict[str, list[LostVersions]] = {}
    for each in case.scope.lost_versions():
        lost.setdefault(each.provider, []).append(each)
    for provider, group in lost.items():
        users = ", ".join(dict.fromkeys(file_name(each.object) for each in group))
        were = "was" if len(group) == 1 else "were"
        versions = ", ".join(dict.fromkeys(version for each in group for version in each.versions))
        bound = [name for each in group for name in each.symbols]
        outcome = (
            "glibc stops with a failed assertion in `check_match` when it looks up the first of them"
            if bound
            else "the loader says `no version information available` at every start, and takes whatever bears the name"
        )
        yield rule.finding(
            provider,
            f"{provider} has no symbol versions, but {users} {were} linked against a build of it with {versions}: "
            f"{outcome}.",
            f"Put the build of {file_name(provider)} there that it was linked against (with the version script), or "
            f"link {users} again with this one.",
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
