"""Names of libtorch that stay undefined, and what they tell: another ABI, another library, another build."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.bounds import whole_number
from torchlink.libtorch.names import bare_name
from torchlink.lint.context import directories_of, holds_torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlink.binary.bindings import UndefinedSymbol
    from torchlink.binary.elf import ElfFile
    from torchlink.lint.context import LintContext

# Functions, constants, vtables and type infos of libtorch's namespaces, in Itanium mangling.
TORCH_NAME = r"_Z(T[VISTCWH])?(NK?[RO]?|)(3c10|2at|5torch|6caffe2)\w"
# What libtorch_python has besides: conversions for pybind11, functions and data of C; and the stable C interface.
PYTHONS_NAME = r"_Z(T[VISTC])?NK?8pybind116detail\d+type_casterIN(3c10|2at|5torch)|(_Z\d+)?THP[A-Z]"
STABLE_NAME = (
    r"aoti_torch_|torch_(call_dispatcher|library_|list_|parallel_for|get_(const|mutable)_data_ptr|get_num_threads"
    r"|(get|set)_current_cuda|dtype_|string_|exception_)"
)
TORCH_TYPE = r"N(3c10|2at|5torch)\d"  # in the parameters of a function that is not libtorch's
NEW_STRING = r"7__cxx11|B5cxx11"
LIBCXX = "St3__1"  # libc++'s own namespace, std::__1
LENGTH = r"[1-9]\d{0,3}"


def is_of_torch(symbol: str) -> bool:
    """Whether only libtorch can define a name."""
    return any(re.match(each, symbol) for each in (TORCH_NAME, PYTHONS_NAME, STABLE_NAME))


def undefined(context: LintContext) -> list[UndefinedSymbol]:
    """What stays undefined in the user's own objects for another reason than that a library is too old.

    Of that `symbol-version-missing` speaks.
    """
    if not context.undefined:
        return []
    lacking = {(missing.object, missing.version) for missing in context.missing_versions}
    return [symbol for symbol in context.undefined if (symbol.object, symbol.version) not in lacking]


def reached(context: LintContext) -> dict[str, ElfFile]:
    """The libraries of the libtorchs that the search paths of the user's objects lead to, by file name.

    For a closure without any: where a linker has dropped all of them.
    """
    places = {host for each in context.own for *_, host in directories_of(each, context)}
    if context.imported is not None:
        places = {context.imported.library_dir}
    return context.linkable_in({place for place in places if holds_torch(place)})


def beside(context: LintContext) -> Mapping[str, ElfFile]:
    """The libraries that could serve it: the closure's libtorch has them, or one that a search path leads to."""
    return context.torch_siblings if context.torch else context.once(reached)


def of_torch(symbols: list[UndefinedSymbol], context: LintContext) -> list[UndefinedSymbol]:
    """Those that a libtorch would serve, where the closure has one or a search path leads to one."""
    named = [symbol for symbol in symbols if is_of_torch(symbol.symbol)]
    return named if named and (context.torch or context.once(reached)) else []


def wanted(context: LintContext) -> list[UndefinedSymbol]:
    """The names of libtorch that the user's objects leave undefined."""
    return of_torch(undefined(context), context)


def mixed(context: LintContext) -> list[UndefinedSymbol]:
    """Names of libtorch that its own libraries leave undefined: then they are of different builds.

    Looked for only where they are in several directories, or where a text names some: in one directory they
    came together.
    """
    if not context.complete or (len(context.torch_dirs) < 2 and not context.from_text):
        return []
    libraries = [each.path for objects in context.torch.values() for each in objects]
    symbols = [symbol for path in libraries for symbol in context.scope.undefined_symbols(path)]
    named = [symbol for symbol in symbols if re.match(TORCH_NAME, symbol.symbol)]
    return [each for each in named if not came_otherwise(each, context)]


def came_otherwise(symbol: UndefinedSymbol, context: LintContext) -> bool:
    """Whether a name that one of libtorch's libraries lacks is in a library next to it.

    libtorch_nvshmem relies on who loads it to have loaded libtorch_cuda. Where a text says that the name is undefined
    although the library next to it that has it is needed, one of another build has taken that library's place.
    """
    user = context.closure.object(symbol.object)
    needed = user.elf.dynamic.needed if user and context.from_text else ()
    return any(name not in needed and elf.defines(symbol.symbol) for name, elf in beside(context).items())


def not_linked(symbols: list[UndefinedSymbol], context: LintContext) -> dict[str, list[UndefinedSymbol]]:
    """Undefined symbols that a libtorch library outside the closure defines, by its file name."""
    found: dict[str, list[UndefinedSymbol]] = {}
    for symbol in of_torch(symbols, context):
        for name, elf in beside(context).items():
            if elf.defines(symbol.symbol):
                found.setdefault(name, []).append(symbol)
                break
    return found


def unlinked(context: LintContext) -> dict[str, list[UndefinedSymbol]]:
    """What `torch-library-not-linked` speaks of: the libraries by file name, each with what is used of it.

    Libtorch's own libraries are loaded by one that has brought the others. Where a linker has dropped all of
    libtorch, that is because of the ABI.
    """
    if context.belongs_to_torch(context.subject):
        return {}
    mixed_up = set(context.once(mixed))
    symbols = [each for each in undefined(context) if each not in mixed_up]
    if not context.torch and (other_abi(symbols, context) or of_libcxx(symbols, context)):
        return {}
    return not_linked(symbols, context)


def accelerator_of(library: str) -> str | None:
    """`libc10_cuda.so` and `libtorch_cuda.so` -> `torch_cuda`, which must be loaded beside either."""
    found = re.match(r"lib(?:c10|torch)_(cuda|hip|xpu)\.so", library)
    return f"torch_{found[1]}" if found else None


def other_abi(symbols: list[UndefinedSymbol], context: LintContext) -> list[UndefinedSymbol]:
    """Those whose std::string is not the one of the libtorch, though of libstdc++ too."""
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
    """Those whose std::string is libc++'s, where the libtorch was built with libstdc++."""
    named = of_torch(symbols, context)
    if not named or torch_abi(context) is None:
        return []
    users = {
        symbol.object for symbol in named if LIBCXX in symbol.symbol or uses_libcxx(symbol.object, context)
    }
    return [
        symbol
        for symbol in named
        # What only returns a string carries no mark in libc++.
        if LIBCXX in symbol.symbol or (symbol.object in users and abi_of(symbol.symbol, context) == 0)
    ]


def uses_libcxx(path: str, context: LintContext) -> bool:
    """Whether an object takes anything from libc++."""
    each = context.closure.object(path)
    return each is not None and any(LIBCXX.encode() in name for name in context.imports(each))


def abi_of(mangled: str, context: LintContext) -> int | None:
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
        at = length.end() + whole_number(length.group())
        tagged.append(f"{mangled[:at]}B5cxx11{mangled[at:]}")
    if "Ss" in grammar + mangled[at:]:
        return 0
    libraries = [each.elf for objects in context.torch.values() for each in objects]
    libraries += beside(context).values()
    return 0 if any(elf.defines(name) for name in tagged for elf in libraries) else None


def torch_c10(context: LintContext) -> tuple[str, ElfFile] | None:
    """Path and file of the libc10 in the closure, or else of the one that could be there; None without one."""
    if "c10" in context.torch:
        c10 = context.torch["c10"][0]
        return c10.path, c10.elf
    return next(((elf.name, elf) for name, elf in beside(context).items() if bare_name(name) == "c10"), None)


def torch_abi(context: LintContext) -> int | None:
    """The C++ ABI of that libc10; None without one, or where it was not built with libstdc++."""
    c10 = torch_c10(context)
    if c10 is None:
        return None
    from torchlink.libtorch.abi import c10_abi

    return c10_abi(c10[1])[0]
