"""The C++ ABI of a libtorch, read from the mangling of std::string in the symbols of its libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError
from torchlink.libtorch.libraries import elf_library

if TYPE_CHECKING:
    from torchlink.binary.elf import ElfFile
    from torchlink.libtorch.layout import Layout

NEW_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"

# A function that takes a std::string is mangled differently under each ABI; `{}` stands for the string. Each of these
# is in the libc10 of many versions; together they cover 1.1 and later.
C10_FUNCTIONS = (
    "_ZN3c106detail14torchCheckFailEPKcS2_jRK{}",  # 1.8 and later
    "_ZN3c105ErrorC1ENS_14SourceLocationE{}",  # 1.13 and later
    "_ZN3c105ErrorC1ENS_14SourceLocationERK{}",  # to 1.5
    "_ZN3c106detail13StripBasenameERK{}",
    "_ZN3c106DeviceC1ERK{}",
)
# A function of libtorch_cpu that returns a std::string, to check that both libraries were built with the same ABI.
CPU_PAIR = ("_ZN2at11show_configEv", "_ZN2at11show_configB5cxx11Ev")

LIBCXX = "NSt3__1"


class Abi(NamedTuple):
    """The value of `_GLIBCXX_USE_CXX11_ABI` that a libtorch was compiled with."""

    value: int | None
    evidence: str | None  # None if the flag has no meaning
    conflicts: tuple[str, ...]


def read_abi(layout: Layout, platform: str) -> Abi:
    """Read the ABI from the symbols of libc10, and check that libtorch_cpu and TorchConfig.cmake agree."""
    if platform != "linux":
        return Abi(None, None, ())
    c10 = elf_library(layout, "c10")
    if c10 is None:
        return Abi(None, None, ("The C++ ABI is unknown: libc10.so cannot be read",))
    value, evidence, problem = c10_abi(c10)
    conflicts = [problem] if problem else []
    if value is not None:
        conflicts += conflicts_in_libtorch_cpu(layout, value)
        conflicts += conflicts_in_torch_config(layout, value)
    return Abi(value, evidence, tuple(conflicts))


def c10_abi(c10: ElfFile) -> tuple[int | None, str | None, str | None]:
    """Return value, evidence and problem, from one libc10."""
    found: dict[int, str] = {}
    for function in C10_FUNCTIONS:
        for value, string in ((0, "Ss"), (1, NEW_STRING)):
            symbol = function.format(string)
            if value not in found and c10.defines(symbol):
                found[value] = symbol
        if found:
            break
    if len(found) == 1:
        ((value, symbol),) = found.items()
        return value, f"libc10.so defines {symbol}", None
    return count_abi(c10)


def count_abi(c10: ElfFile) -> tuple[int | None, str | None, str | None]:
    """Do the same by counting, for a version whose functions are not listed.

    Only c10's own functions count: an ABI-0 libc10 defines some 200 symbols of libstdc++'s templates with
    `__cxx11` in their names.
    """
    import re

    old_parameter = re.compile(r"(?:RK|R|O|P|PK|E|S\d?_)Ss")
    old = new = libcxx = 0
    for symbol in c10.dynamic_symbols():
        if not symbol.defined or not symbol.name.startswith(("_ZN3c10", "_ZNK3c10")):
            continue
        new += "__cxx11" in symbol.name or "B5cxx11" in symbol.name
        old += old_parameter.search(symbol.name) is not None
        libcxx += LIBCXX in symbol.name
    if libcxx > old + new:
        return None, None, None  # libc++ has one ABI
    if old == new:
        return None, None, "The C++ ABI is unknown: no function of libc10.so shows it"
    value = int(new > old)
    mixed = f"libc10.so mixes both C++ ABIs: {old} functions with the old std::string, {new} with the new one"
    evidence = f"{max(old, new)} functions of libc10.so take the {'new' if value else 'old'} std::string"
    return value, evidence, mixed if min(old, new) else None


def conflicts_in_libtorch_cpu(layout: Layout, value: int) -> list[str]:
    """Report libtorch_cpu if it was built with the other ABI."""
    try:
        cpu = None if layout.tree.packed else elf_library(layout, "torch_cpu")
    except MalformedFileError as error:
        return [error.message.rstrip(".")]
    if cpu is None:
        return []
    if cpu.defines(CPU_PAIR[1 - value]) and not cpu.defines(CPU_PAIR[value]):
        return [f"libc10.so was built with C++ ABI {value}, libtorch_cpu.so with {1 - value}"]
    return []


def conflicts_in_torch_config(layout: Layout, value: int) -> list[str]:
    """Report TorchConfig.cmake if it sets the other ABI."""
    if layout.cmake_dir is None:
        return []
    text = layout.tree.text(f"{layout.cmake_dir}/TorchConfig.cmake") or ""
    declared = text.partition("_GLIBCXX_USE_CXX11_ABI=")[2][:1]
    if declared in {"0", "1"} and int(declared) != value:
        return [f"TorchConfig.cmake says C++ ABI {declared}, but the libraries were built with {value}"]
    return []
