"""The C++ ABI of a libtorch: which mangling of std::string the symbols of its libraries carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError
from torchlink.libtorch.libraries import elf_library

if TYPE_CHECKING:
    from torchlink.binary.elf import ElfFile
    from torchlink.libtorch.layout import Layout

NEW_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"

# A function that takes a std::string by value or reference is mangled in one way under each ABI. `{}` stands
# for the string. Each of these is in the libc10 of many versions; together they cover 1.1 and later.
C10_FUNCTIONS = (
    "_ZN3c106detail14torchCheckFailEPKcS2_jRK{}",  # 1.8 and later
    "_ZN3c105ErrorC1ENS_14SourceLocationE{}",  # 1.13 and later
    "_ZN3c105ErrorC1ENS_14SourceLocationERK{}",  # to 1.5
    "_ZN3c106detail13StripBasenameERK{}",
    "_ZN3c106DeviceC1ERK{}",
)
# In libtorch_cpu, to see whether the two were built alike: a function that returns a std::string.
CPU_PAIR = ("_ZN2at11show_configEv", "_ZN2at11show_configB5cxx11Ev")

LIBCXX = "NSt3__1"


class Abi(NamedTuple):
    """`_GLIBCXX_USE_CXX11_ABI` as it was when a libtorch was compiled."""

    value: int | None
    evidence: str | None  # None where the flag has no meaning
    conflicts: tuple[str, ...]


def read_abi(layout: Layout, platform: str) -> Abi:
    """Tell the ABI from the symbols of libc10, and whether libtorch_cpu and TorchConfig.cmake agree."""
    if platform != "linux":
        return Abi(None, None, ())
    c10 = elf_library(layout, "c10")
    if c10 is None:
        return Abi(None, None, ("The C++ ABI is unknown: libc10.so cannot be read",))
    value, evidence, problem = c10_abi(c10)
    conflicts = [problem] if problem else []
    if value is not None:
        conflicts += other_libraries(layout, value)
        conflicts += declared(layout, value)
    return Abi(value, evidence, tuple(conflicts))


def c10_abi(c10: ElfFile) -> tuple[int | None, str | None, str | None]:
    """Value, evidence and what is wrong, from one libc10."""
    votes: dict[int, str] = {}
    for function in C10_FUNCTIONS:
        for value, string in ((0, "Ss"), (1, NEW_STRING)):
            symbol = function.format(string)
            if value not in votes and c10.defines(symbol):
                votes[value] = symbol
        if votes:
            break
    if len(votes) == 1:
        ((value, symbol),) = votes.items()
        return value, f"libc10.so defines {symbol}", None
    return count_abi(c10)


def count_abi(c10: ElfFile) -> tuple[int | None, str | None, str | None]:
    """The same by counting, for a version whose functions are not listed.

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
        return None, None, "The C++ ABI is unknown: no function of libc10.so tells it"
    value = int(new > old)
    mixed = f"libc10.so mixes both C++ ABIs: {old} functions with the old std::string, {new} with the new one"
    evidence = f"{max(old, new)} functions of libc10.so take the {'new' if value else 'old'} std::string"
    return value, evidence, mixed if min(old, new) else None


def other_libraries(layout: Layout, value: int) -> list[str]:
    """Whether libtorch_cpu was built with the other ABI."""
    try:
        cpu = None if layout.tree.packed else elf_library(layout, "torch_cpu")
    except MalformedFileError as error:
        return [error.message.rstrip(".")]
    if cpu is None:
        return []
    if cpu.defines(CPU_PAIR[1 - value]) and not cpu.defines(CPU_PAIR[value]):
        return [f"libc10.so was built with C++ ABI {value}, libtorch_cpu.so with {1 - value}"]
    return []


def declared(layout: Layout, value: int) -> list[str]:
    """Whether TorchConfig.cmake hands on the other ABI."""
    if layout.cmake_dir is None:
        return []
    text = layout.tree.text(f"{layout.cmake_dir}/TorchConfig.cmake") or ""
    said = text.partition("_GLIBCXX_USE_CXX11_ABI=")[2][:1]
    if said in {"0", "1"} and int(said) != value:
        return [f"TorchConfig.cmake says C++ ABI {said}, but the libraries were built with {value}"]
    return []
