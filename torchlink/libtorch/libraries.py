"""Which shared libraries a libtorch consists of, and whether the core of it is complete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from torchlink.binary.elf import ElfFile
    from torchlink.libtorch.layout import Layout
    from torchlink.libtorch.tree import Tree

SHARED = re.compile(r".+\.(so(\.\d[\w.]*)?|dylib|dll|lib)")
# What is torch's own where its libraries lie among a whole system's.
OWN = re.compile(
    r"(lib)?(c10|torch|caffe2|shm|nvfuser|aoti|backend_with_compiler|jitbackend)\w*\.(so(\.[\d.]+)?|dylib|dll|lib)"
)
FAMILY = re.compile(r"lib(c10|torch|caffe2)(_(?!nvrtc)\w+)?\.so(\.[\d.]+)?")
SHARED_DIR_KINDS = {"conda", "system", "unknown"}
BUNDLED = "../torch.libs"  # where auditwheel puts the libraries that it grafts into a wheel
# The thin stub of 1.5 and later is a few hundred KB; before, libtorch itself held the code.
LARGEST_STUB = 1 << 20


def library_names(layout: Layout) -> tuple[str, ...]:
    """File names of libtorch's shared libraries, sorted, those that its wheel bundles in `torch.libs` too.

    Among a system's libraries only torch's own count. A name that only adds a version to another one for the
    same file (`libc10.so.1.13` beside `libc10.so`) is left out.
    """
    tree, directory = layout.tree, layout.library_dir
    pattern = OWN if layout.kind in SHARED_DIR_KINDS else SHARED
    prefix = f"{directory}/" if directory else ""
    names = {
        name for name in tree.names(directory) if pattern.fullmatch(name) and tree.is_file(prefix + name)
    }
    names = {name for name in names if not _is_version_link(tree, directory, name, names)}
    if layout.kind in {"pip", "wheel"}:
        names |= {name for name in tree.names(BUNDLED) if SHARED.fullmatch(name)}
    return tuple(sorted(names))


def _is_version_link(tree: Tree, directory: str, name: str, names: set[str]) -> bool:
    plain, dot_so, version = name.partition(".so.")
    return bool(
        dot_so
        and version
        and f"{plain}.so" in names
        and tree.same_file(f"{directory}/{plain}.so", f"{directory}/{name}")
    )


def library_file(layout: Layout, bare: str) -> str | None:
    """The name in the tree of a library given by its bare name (`torch_cpu`), or None."""
    prefix = f"{layout.library_dir}/" if layout.library_dir else ""
    for name in (f"lib{bare}.so", f"lib{bare}.dylib", f"{bare}.dll"):
        if layout.tree.is_file(prefix + name):
            return prefix + name
    versioned = re.compile(rf"lib{re.escape(bare)}\.so\.[\d.]+")
    return next(
        (prefix + name for name in layout.tree.names(layout.library_dir) if versioned.fullmatch(name)), None
    )


def elf_library(layout: Layout, bare: str) -> ElfFile | None:
    """A reader of an ELF library given by its bare name, or None where there is none to be had."""
    name = library_file(layout, bare)
    if name is None or ".so" not in name:
        return None
    return layout.tree.elf(name)


def incomplete(layout: Layout) -> str | None:
    """Why the core libraries cannot serve, as a sentence without a final full stop; None where they can.

    Since 1.5 the code is in libtorch_cpu and libtorch is a stub that NEEDs it; before, libtorch held it.
    """
    if "c10" not in layout.core:
        return "half an install: libc10 is missing"
    if library_file(layout, "c10") is None:
        return "half an install: c10 has an import library but no DLL"
    if "torch_cpu" in layout.core:
        return None
    try:
        stub = elf_library(layout, "torch")
    except MalformedFileError as error:
        return f"half an install: {error.message.rstrip('.')}"
    if stub is not None:
        missing = [
            name for name in stub.dynamic.needed if FAMILY.fullmatch(name) and not _holds(layout, name)
        ]
        return f"half an install: libtorch.so needs {missing[0]}, which is missing" if missing else None
    name = library_file(layout, "torch")
    if name is None or layout.tree.size(name) <= LARGEST_STUB:
        return "half an install: libtorch_cpu is missing"
    return None


def _holds(layout: Layout, name: str) -> bool:
    prefix = f"{layout.library_dir}/" if layout.library_dir else ""
    return layout.tree.is_file(prefix + name)
