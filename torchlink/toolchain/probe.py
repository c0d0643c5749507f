"""Reading what a C++ compiler is, from its predefined macros and the output of `-v`."""

from __future__ import annotations

import re
from dataclasses import dataclass

# <cstddef> defines the standard library's configuration macros and little else. The check before it finds a C++ ABI
# that the command itself, such as a wrapper script, has chosen.
PROBE_SOURCE = """\
#ifdef _GLIBCXX_USE_CXX11_ABI
#define TORCHLINK_ABI_PREDEFINED
#endif
#include <cstddef>
"""
CPLUSPLUS = ((202302, 23), (202002, 20), (201703, 17), (201402, 14), (201103, 11))
PROBE_ARGUMENTS = ("-v", "-dM", "-E", "-x", "c++", "-")

MACRO = re.compile(
    r"^#define (__GNUC__|__GNUC_MINOR__|__GNUC_PATCHLEVEL__|__clang_major__|__clang_minor__"
    r"|__clang_patchlevel__|__apple_build_version__|__NVCOMPILER|__INTEL_COMPILER|_LIBCPP_VERSION|_GLIBCXX_RELEASE|__GLIBCXX__"
    r"|TORCHLINK_ABI_PREDEFINED|_GLIBCXX_USE_CXX11_ABI|_GLIBCXX_USE_DUAL_ABI|__cplusplus|__i386__|__x86_64__)\b ?(.*)$",
    re.MULTILINE,
)
TARGET = re.compile(r"^Target: (\S+)$", re.MULTILINE)
SEARCH_LIST = re.compile(
    r"^#include <\.\.\.> search starts here:\n(.*?)^End of search list", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of running a compiler on `PROBE_SOURCE`; see `Compiler` for the fields."""

    kind: str
    version: tuple[int, ...]
    target: str
    standard_library: str
    libstdcxx: int | None  # its release; 0 before 7; None: another library
    default_cxx11_abi: int | None
    abi_predefined: bool
    dual_abi: bool
    include_dirs: tuple[str, ...]  # as printed
    default_standard: int | None


def read_probe(macros: str, verbose: str) -> Probe | None:
    """Read the output of `c++ -v -dM -E -x c++ -`.

    Args:
        macros: its stdout, `#define` lines.
        verbose: its stderr in the C locale.

    Returns:
        None if it is neither GCC nor clang.
    """
    defined = {name: value.strip() for name, value in MACRO.findall(macros)}
    if "__GNUC__" not in defined:
        return None
    library, libstdcxx = _standard_library(defined)
    has_gnu_library = library == "libstdc++"
    return Probe(
        kind=_kind(defined),
        version=_version(defined),
        target=_target(defined, verbose),
        standard_library=library,
        libstdcxx=libstdcxx,
        default_cxx11_abi=int(defined.get("_GLIBCXX_USE_CXX11_ABI", "0")) if has_gnu_library else None,
        abi_predefined="TORCHLINK_ABI_PREDEFINED" in defined,
        dual_abi=has_gnu_library and defined.get("_GLIBCXX_USE_DUAL_ABI") == "1",
        include_dirs=_include_dirs(verbose),
        default_standard=_standard(defined.get("__cplusplus", "")),
    )


def _standard(value: str) -> int | None:
    """Return the C++ standard of a value of `__cplusplus`; for a draft, the standard before it."""
    if not re.fullmatch(r"\d{6}L", value):
        return None
    return next((standard for since, standard in CPLUSPLUS if int(value[:6]) >= since), 3)


def _kind(defined: dict[str, str]) -> str:
    # Other compilers define __GNUC__ too, for compatibility with GCC.
    if "__NVCOMPILER" in defined or "__INTEL_COMPILER" in defined:
        return "unknown"
    if "__apple_build_version__" in defined:
        return "apple-clang"
    return "clang" if "__clang_major__" in defined else "gcc"


def _version(defined: dict[str, str]) -> tuple[int, ...]:
    names = ("__clang_major__", "__clang_minor__", "__clang_patchlevel__")
    if names[0] not in defined:
        names = ("__GNUC__", "__GNUC_MINOR__", "__GNUC_PATCHLEVEL__")
    return tuple(int(defined.get(name, "0")) for name in names)


def _target(defined: dict[str, str], verbose: str) -> str:
    found = TARGET.search(verbose)
    target = found.group(1) if found else "unknown"
    # GCC prints its default target even with -m32 or -m64; the macros follow the option.
    if "__i386__" in defined and target.startswith("x86_64"):
        return "i686" + target[len("x86_64") :]
    if "__x86_64__" in defined and re.match(r"i\d86", target):
        return "x86_64" + target[4:]
    return target


def _standard_library(defined: dict[str, str]) -> tuple[str, int | None]:
    if "_LIBCPP_VERSION" in defined:
        return "libc++", None
    if "__GLIBCXX__" in defined:
        return "libstdc++", int(defined.get("_GLIBCXX_RELEASE", "0"))
    return "unknown", None


def _include_dirs(verbose: str) -> tuple[str, ...]:
    found = SEARCH_LIST.search(verbose)
    lines = found.group(1).splitlines() if found else []
    return tuple(line.strip() for line in lines if not line.endswith("(framework directory)"))
