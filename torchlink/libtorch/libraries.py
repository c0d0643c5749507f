"""The shared libraries of a libtorch, and whether its core is complete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import MalformedFileError
from torchlink.libtorch.names import library_name
from torchlink.shown import visible

if TYPE_CHECKING:
    from torchlink.binary.elf import ElfFile
    from torchlink.libtorch.layout import Layout

# How the bare names of torch's own libraries begin, to tell them from others in a shared directory.
OWN = (
    "c10",
    "torch",
    "caffe2",
    "shm",
    "nvfuser",
    "aoti_custom_ops",
    "backend_with_compiler",
    "jitbackend_test",
)
# Names that a library of libtorch can have. Anything else is ignored: in a build file it could be code.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}")
PACKAGES = frozenset({"pip", "wheel"})
SHARED_DIR_KINDS = frozenset({"conda", "system"})
BUNDLED = "../torch.libs"  # where auditwheel puts the libraries that it copies into a wheel
# The stub of 1.5 and later has a few hundred KB; before, libtorch itself held the code.
LARGEST_STUB = 1 << 20  # bytes


def library_names(layout: Layout) -> tuple[str, ...]:
    """Return the sorted file names of libtorch's shared libraries, including those bundled in `torch.libs`.

    In a directory shared with a system only torch's own count; a wheel's directory has no others, however many ROCm's
    are. Dangling links are left out, and versioned names of the same file (`libc10.so.1.13` next to `libc10.so`).
    """
    tree = layout.tree
    bare = {file: name for file in tree.names(layout.library_dir) if (name := library_name(file)) is not None}
    own = {file for file, name in bare.items() if is_own(name)}
    mostly_others = layout.kind not in PACKAGES and len(bare) > 4 * len(own)
    shared = layout.kind in SHARED_DIR_KINDS or mostly_others
    names = {file for file in (own if shared else bare) if tree.is_file(layout.library(file))}
    names = {name for name in names if not _is_version_link(layout, name, names)}
    if layout.kind in PACKAGES:
        names.update(file for file in tree.names(BUNDLED) if library_name(file) is not None)
    return tuple(sorted(filter(NAME.fullmatch, names)))


def odd_names(layout: Layout) -> tuple[str, ...]:
    """Report files that end like libraries but have names that no library has; they are left out."""
    directories = (layout.library_dir, *((BUNDLED,) if layout.kind in PACKAGES else ()))
    odd = [
        file
        for directory in directories
        for file in layout.tree.names(directory)
        if library_name(file) is not None and not NAME.fullmatch(file)
    ]
    if not odd:
        return ()
    return (f"{visible(odd[0][:60])} next to libtorch's libraries is not a library name, and is left out",)


def is_own(bare: str) -> bool:
    """Whether a bare name is one of torch's libraries: `torch_cpu`, `c10_cuda`, but not `torchvision`."""
    return any(bare == own or bare.startswith(f"{own}_") for own in OWN)


def _is_version_link(layout: Layout, name: str, names: set[str]) -> bool:
    plain = f"{name.partition('.so.')[0]}.so"
    return (
        plain != name
        and plain in names
        and layout.tree.same_file(layout.library(plain), layout.library(name))
    )


def library_file(layout: Layout, bare: str) -> str | None:
    """Return the name in the tree of a library given by its bare name (`torch_cpu`), or None."""
    for file in (f"lib{bare}.so", f"lib{bare}.dylib", f"{bare}.dll"):
        if layout.tree.is_file(layout.library(file)):
            return layout.library(file)
    for file in layout.tree.names(layout.library_dir):
        if file.startswith(f"lib{bare}.so.") and library_name(file) == bare:
            return layout.library(file)
    return None


def elf_library(layout: Layout, bare: str) -> ElfFile | None:
    """Open an ELF library given by its bare name; None if there is none or it is too large to unpack."""
    name = library_file(layout, bare)
    if name is None or ".so" not in name:
        return None
    return layout.tree.elf(name)


def incomplete(layout: Layout) -> str | None:
    """Return why the core libraries are not usable, without a final full stop; None if they are.

    Since 1.5 the code is in libtorch_cpu, and libtorch is a stub that NEEDs it; before, libtorch held it.
    """
    if "c10" not in layout.core:
        return "incomplete install: libc10 is missing"
    if library_file(layout, "c10") is None:
        return "incomplete install: c10 can be linked but not loaded (a dangling link, or no DLL)"
    if "torch_cpu" in layout.core:
        missing = library_file(layout, "torch_cpu") is None
        return "incomplete install: libtorch_cpu is a dangling link" if missing else None
    try:
        stub = elf_library(layout, "torch")
    except MalformedFileError as error:
        return f"incomplete install: {error.message.rstrip('.')}"
    if stub is not None:
        missing_names = [name for name in stub.dynamic.needed if _is_missing(layout, name)]
        return (
            f"incomplete install: libtorch.so needs {missing_names[0]}, which is missing"
            if missing_names
            else None
        )
    name = library_file(layout, "torch")
    if name is None or layout.tree.size(name) <= LARGEST_STUB:
        return "incomplete install: libtorch_cpu is missing"
    return None


def _is_missing(layout: Layout, name: str) -> bool:
    """Whether a NEEDED name is torch's own and missing."""
    bare = library_name(name)
    return bare is not None and is_own(bare) and not layout.tree.is_file(layout.library(name))
