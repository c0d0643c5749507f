"""Which C++ standards a compiler and its standard library really implement, as data.

A flag that is accepted is not enough: g++ 8 takes `-std=c++2a` and has no `<bit>`. Where the numbers come
from: 17 from g++ and clang 9 on is libtorch's own check (`c10/util/C++17.h`, because `std::optional` changed
its layout in libstdc++ 9); 20 from g++ 11 on is what PyTorch's README asks for, and g++ 11.3, clang 13 and
clang 14 compile the headers of 2.15, which need it.
"""

from __future__ import annotations

Version = tuple[int, ...]

PUBLISHED = (98, 3, 11, 14, 17, 20, 23, 26)  # by year; the last one is due
COMPILERS: dict[str, tuple[tuple[int, Version], ...]] = {
    "gcc": ((11, (4, 8, 1)), (14, (5,)), (17, (9,)), (20, (11,)), (23, (14,))),
    "clang": ((11, (3, 3)), (14, (3, 4)), (17, (9,)), (20, (13,)), (23, (18,))),
    "apple-clang": ((11, (4, 2)), (14, (6,)), (17, (11,)), (20, (15,)), (23, (17,))),
}
# By _GLIBCXX_RELEASE, which libstdc++ has had since 7; 0 stands for an older one.
LIBSTDCXX: tuple[tuple[int, int], ...] = ((11, 0), (14, 0), (17, 9), (20, 11), (23, 14))
UNKNOWN_COMPILER = (11, 14, 17, 20)


def implemented(kind: str, version: Version, libstdcxx: int | None) -> tuple[int, ...]:
    """The standards that can be asked of a compiler, ascending.

    Args:
        kind: as in `Compiler.kind`; an unknown one is believed to implement all that libtorch asks for.
        version: of the compiler.
        libstdcxx: the release of the libstdc++ in use, or None where another standard library is.
    """
    table = COMPILERS.get(kind)
    by_compiler = (
        UNKNOWN_COMPILER if table is None else tuple(std for std, since in table if version >= since)
    )
    if libstdcxx is None:
        return by_compiler
    by_library = {std for std, since in LIBSTDCXX if libstdcxx >= since}
    return tuple(std for std in by_compiler if std in by_library)


def held_back_by_library(kind: str, version: Version, libstdcxx: int | None, standard: int) -> int | None:
    """The libstdc++ release that a standard needs, where that and not the compiler itself is too old; else None."""
    since = next((since for std, since in LIBSTDCXX if std == standard), None)
    if since is None or libstdcxx is None or libstdcxx >= since:
        return None
    return since if standard in implemented(kind, version, None) else None


def first_version(kind: str, standard: int) -> str:
    """The first version of a kind of compiler with this standard, for messages: `11`; empty where unknown."""
    for std, since in COMPILERS.get(kind, ()):
        if std == standard:
            return ".".join(map(str, since))
    return ""
