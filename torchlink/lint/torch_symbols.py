"""Undefined symbols of libtorch, and what causes them: another ABI, a library not linked, another build."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.bounds import whole_number
from torchlink.libtorch.names import bare_name
from torchlink.libtorch.symbols import LIBCXX, TORCH_NAME, is_of_torch
from torchlink.lint.context import directories_of, holds_torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlink.binary.bindings import UndefinedSymbol
    from torchlink.binary.elf import ElfFile
    from torchlink.lint.context import LintContext

NEW_STRING = r"7__cxx11|B5cxx11"
LENGTH = r"[1-9]\d{0,3}"


def undefined(context: LintContext) -> list[UndefinedSymbol]:
    """Return the undefined symbols of the user's own objects, except those of a library that is too old.

    `symbol-version-missing` reports the latter.
    """
    if not context.undefined:
        return []
    lacking = {(missing.object, missing.version) for missing in context.missing_versions}
    return [symbol for symbol in context.undefined if (symbol.object, symbol.version) not in lacking]


def torch_on_search_path(context: LintContext) -> dict[str, ElfFile]:
    """Return the libraries of libtorch in the search paths of the user's objects, by file name.

    For a closure without libtorch, because the linker has dropped all of its libraries.
    """
    places = {host for each in context.own for *_, host in directories_of(each, context)}
    if context.imported is not None:
        places = {context.imported.library_dir}
    return context.linkable_in({place for place in places if holds_torch(place)})


def torch_outside_closure(context: LintContext) -> Mapping[str, ElfFile]:
    """Return libraries of libtorch outside the closure: of the closure's libtorch, or of one in a search path."""
    return context.torch_siblings if context.torch else context.once(torch_on_search_path)


def of_torch(symbols: list[UndefinedSymbol], context: LintContext) -> list[UndefinedSymbol]:
    """Return the symbols that belong to libtorch, if the closure has one or a search path leads to one."""
    named = [symbol for symbol in symbols if is_of_torch(symbol.symbol)]
    return named if named and (context.torch or context.once(torch_on_search_path)) else []


def undefined_torch_symbols(context: LintContext) -> list[UndefinedSymbol]:
    """Return the symbols of libtorch that the user's objects leave undefined."""
    return of_torch(undefined(context), context)


def mixed(context: LintContext) -> list[UndefinedSymbol]:
    """Return the symbols of libtorch that its own libraries leave undefined, because they are of different builds.

    Checked only if they are in several directories or a text lists undefined symbols: those in one directory were
    installed together.
    """
    if not context.complete or (len(context.torch_dirs) < 2 and not context.from_text):
        return []
    libraries = [each.path for objects in context.torch.values() for each in objects]
    symbols = [symbol for path in libraries for symbol in context.scope.undefined_symbols(path)]
    named = [symbol for symbol in symbols if re.match(TORCH_NAME, symbol.symbol)]
    return [each for each in named if not is_in_sibling(each, context)]


def is_in_sibling(symbol: UndefinedSymbol, context: LintContext) -> bool:
    """Whether a library next to libtorch's, and not in the closure, defines a symbol.

    libtorch_nvshmem relies on its user to have loaded libtorch_cuda. If a text lists the symbol as undefined although
    its library is needed, a library of another build was loaded instead.
    """
    user = context.closure.object(symbol.object)
    needed = user.elf.dynamic.needed if user and context.from_text else ()
    return any(
        name not in needed and elf.defines(symbol.symbol)
        for name, elf in torch_outside_closure(context).items()
    )


def not_linked(symbols: list[UndefinedSymbol], context: LintContext) -> dict[str, list[UndefinedSymbol]]:
    """Return the undefined symbols that a libtorch library outside the closure defines, by its file name."""
    found: dict[str, list[UndefinedSymbol]] = {}
    for symbol in of_torch(symbols, context):
        for name, elf in torch_outside_closure(context).items():
            if elf.defines(symbol.symbol):
                found.setdefault(name, []).append(symbol)
                break
    return found


def unlinked(context: LintContext) -> dict[str, list[UndefinedSymbol]]:
    """Return what `torch-library-not-linked` reports: libraries by file name, each with the symbols used from it.

    Nothing for libtorch's own libraries, which rely on their user to have loaded the others, and nothing if the linker
    has dropped all of libtorch because of the ABI.
    """
    if context.belongs_to_torch(context.subject):
        return {}
    mixed_up = set(context.once(mixed))
    symbols = [each for each in undefined(context) if each not in mixed_up]
    if not context.torch and (other_abi(symbols, context) or of_libcxx(symbols, context)):
        return {}
    return not_linked(symbols, context)


def accelerator_of(library: str) -> str | None:
    """Map `libc10_cuda.so` and `libtorch_cuda.so` to `torch_cuda`, which must be loaded with either."""
    found = re.match(r"lib(?:c10|torch)_(cuda|hip|xpu)\.so", library)
    return f"torch_{found[1]}" if found else None


def other_abi(symbols: list[UndefinedSymbol], context: LintContext) -> list[UndefinedSymbol]:
    """Return the symbols with the std::string of libstdc++'s other ABI, not libtorch's."""
    abi = torch_abi(context)
    if abi is None:
        return []
    others = set(of_libcxx(symbols, context))
    return [
        symbol
        for symbol in of_torch(symbols, context)
        if symbol not in others and abi_of(symbol.symbol, context) == 1 - abi
    ]


def of_libcxx(symbols: list[UndefinedSymbol], context: LintContext) -> list[UndefinedSymbol]:
    """Return the symbols with libc++'s std::string, if libtorch was built with libstdc++."""
    named = of_torch(symbols, context)
    if not named or torch_abi(context) is None:
        return []
    users = {
        symbol.object for symbol in named if LIBCXX in symbol.symbol or uses_libcxx(symbol.object, context)
    }
    return [
        symbol
        for symbol in named
        # In libc++, the name of a function that only returns a string does not contain its type.
        if LIBCXX in symbol.symbol or (symbol.object in users and abi_of(symbol.symbol, context) == 0)
    ]


def uses_libcxx(path: str, context: LintContext) -> bool:
    """Whether an object uses any symbol of libc++."""
    each = context.closure.object(path)
    return each is not None and any(LIBCXX.encode() in name for name in context.imports(each))


def abi_of(mangled: str, context: LintContext) -> int | None:
    """Return the C++ ABI that the std::string in a mangled name reveals, None if it reveals none.

    `Ss` is the old string, `__cxx11` and the tag `B5cxx11` are the new one. Under the old ABI the name of a function
    that only returns a string reveals nothing; it is recognised if libtorch has the same name with the tag.
    """
    if re.search(NEW_STRING, mangled):
        return 1
    tagged, grammar, at = [], "", 0
    number = re.compile(LENGTH)
    # An identifier follows its length, and may contain an `Ss`.
    while length := number.search(mangled, at):
        grammar += mangled[at : length.start()] + " "
        at = length.end() + whole_number(length.group())
        tagged.append(f"{mangled[:at]}B5cxx11{mangled[at:]}")
    if "Ss" in grammar + mangled[at:]:
        return 0
    libraries = [each.elf for objects in context.torch.values() for each in objects]
    libraries += torch_outside_closure(context).values()
    return 0 if any(elf.defines(name) for name in tagged for elf in libraries) else None


def torch_c10(context: LintContext) -> tuple[str, ElfFile] | None:
    """Return path and file of the libc10 in the closure, or else of the one in a search path; None without one."""
    if "c10" in context.torch:
        c10 = context.torch["c10"][0]
        return c10.path, c10.elf
    return next(
        ((elf.name, elf) for name, elf in torch_outside_closure(context).items() if bare_name(name) == "c10"),
        None,
    )


def torch_abi(context: LintContext) -> int | None:
    """Return the C++ ABI of that libc10; None without one, or if it was not built with libstdc++."""
    c10 = torch_c10(context)
    if c10 is None:
        return None
    from torchlink.libtorch.abi import c10_abi

    return c10_abi(c10[1])[0]
