"""The libraries that a binary links but does not use, except those linked for another reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.binary.elf_hash import gnu_hash
from torchlink.libtorch.names import TORCH_LIBRARIES, bare_name

if TYPE_CHECKING:
    from torchlink.binary.closure import Edge, LoadedObject
    from torchlink.binary.elf_layout import Wanted
    from torchlink.lint.context import LintContext

FEW = 16  # more than the number of symbols that compiler and linker add to every library
LINKER_SYMBOLS = frozenset({"_init", "_fini", "_edata", "_end", "__bss_start", "__bss_start__", "_bss_end__"})
IMPLIED = r"(libc|libgcc_s|ld-[\w-]+)\.so[.\d]*$|ld64\.so\.\d$"  # gcc links these by default
CXX_RUNTIME = r"lib(std)?c\+\+(abi)?\.so"  # g++ and clang++ link it by default, and libm with it
LIBM = r"libm\.so\.\d$"
IN_STATIC_RUNTIME = b"St9exception\0"  # the name of a type, present if linked with -static-libstdc++
PARTS_OF_LIBC = r"lib(m|pthread|dl|rt|util|anl)\.so\.\d$"  # a function may move from one to another
CXX_NAME = (
    r"_Z(T[VISTC])?N?K?S[tabsiod]"  # names in std; libraries contain copies of newer parts of libstdc++
)
INTERPOSING = "malloc"  # defined by allocators and sanitizers, which take effect by being loaded


def unused(context: LintContext) -> list[tuple[Edge, LoadedObject]]:
    """Return the subject's NEEDED entries that no relocation needs and that have no other purpose.

    Nothing for libtorch's own libraries: libtorch_global_deps exists to load what it links.
    """
    found: list[tuple[Edge, LoadedObject]] = []
    if not context.complete or context.came_with_torch or is_forwarder(context.subject):
        return found
    relied_on: set[str] | None = None
    for edge in context.scope.unused_needed(context.subject.path):
        library = context.closure.object(edge.path or "")
        if library is None or library.found_via.kind == "interpreter":
            continue
        if is_implied(edge.name, context) or library.elf.defines(INTERPOSING):
            continue
        if is_forwarder(library) and bare_name(edge.name) not in TORCH_LIBRARIES:
            continue
        if relied_on is None:  # the binary may load what its own libraries use without linking
            others = (each for each in context.own if each is not context.subject)
            relied_on = {path for each in others for path in context.scope.used_but_not_needed(each.path)}
        # If symbols are undefined, this library may be the one that should define them.
        lacking = context.undefined and (context.is_program or bare_name(edge.name) in TORCH_LIBRARIES)
        if library.path not in relied_on and not lacking and not interposes(library, context):
            found.append((edge, library))
    return found


def interposes(library: LoadedObject, context: LintContext) -> bool:
    """Whether a library interposes functions of another one for any object of the closure."""
    if context.belongs_to_torch(library):  # it does not, and its symbol tables are large
        return False
    objects = context.closure.objects
    imports = frozenset().union(*(context.imports(each) for each in objects if each is not library))
    wanted: list[Wanted] = [(gnu_hash(name), name, None, number) for number, name in enumerate(imports)]
    left = {number for *_, number in library.elf.unresolved(wanted)}
    served = [each for each in wanted if each[3] not in left and is_own(each[1], library)]
    return any(
        len(each.elf.unresolved(served)) < len(served) for each in objects[objects.index(library) + 1 :]
    )


def is_own(name: bytes, library: LoadedObject) -> bool:
    """Whether a library defines a name strongly, and not as a copy of a part of libstdc++."""
    text = name.decode("utf-8", "surrogateescape")
    found = library.elf.find_symbol(text)
    return found is not None and found.binding == "global" and not re.match(CXX_NAME, text)


def is_implied(name: str, context: LintContext) -> bool:
    """Whether the compiler links a library by default, or the functions that were used have moved since.

    A function that was in libpthread when the binary was linked may be in libc now: the binary still has the version
    that it needs of libpthread, and needs the library on an older system.
    """
    elf = context.subject.elf
    if re.match(IMPLIED, name) or re.match(CXX_RUNTIME, name):
        return True
    if re.match(LIBM, name):
        with_cxx_runtime = any(re.match(CXX_RUNTIME, each) for each in elf.dynamic.needed)
        if with_cxx_runtime or elf.find_in_section(".rodata", IN_STATIC_RUNTIME, 0, 0) is not None:
            return True
    return bool(re.match(PARTS_OF_LIBC, name)) and any(need.library == name for need in elf.version_needs())


def is_forwarder(each: LoadedObject) -> bool:
    """Whether a library has no code of its own and only loads others, as libpython3.so does."""
    elf = each.elf
    if elf.interpreter is not None or not elf.dynamic.needed or elf.symbol_count > FEW:
        return False
    symbols = list(elf.dynamic_symbols())
    return not any(each.binding != "weak" and each.name not in LINKER_SYMBOLS for each in symbols)
