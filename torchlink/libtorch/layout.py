"""Where the parts of a libtorch are below its root, or why a directory is not a libtorch."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.disk import is_closed
from torchlink.libtorch.names import CORE, library_name

if TYPE_CHECKING:
    from torchlink.libtorch.tree import Tree

INSTALLED = frozenset({"/usr", "/usr/local"})
LUA = frozenset({"libTH.so", "libluaT.so", "libTH.dylib", "libluaT.dylib", "libTH.a", "libluaT.a"})
STATIC = frozenset({"libc10.a", "libtorch_cpu.a"})

TRIPLE = re.compile(r"(?:lib/)?[A-Za-z0-9_]+-linux-gnu[A-Za-z0-9_]*")

NO_HEADERS = "no headers: include/ATen is missing"

# How much of a libtorch a place has; the reason of the one with the most is reported.
NOTHING, RELATED, INCOMPLETE, BROKEN = range(4)


class Layout(NamedTuple):
    """The parts of one libtorch; names are relative to `tree.root`."""

    tree: Tree
    kind: str  # see Libtorch.layout
    include: str  # does not exist where this is `NoLibtorch.libraries`
    library_dir: str
    cmake_dir: str | None  # holds TorchConfig.cmake
    core: tuple[str, ...]  # bare names of its core libraries: "c10", "torch", "torch_cpu", "caffe2"

    def library(self, file: str) -> str:
        """Return the name in the tree of a file in the library directory."""
        return f"{self.library_dir}/{file}" if self.library_dir else file


class NoLibtorch(NamedTuple):
    """Why a place is not a libtorch."""

    reason: str  # a sentence without a final full stop
    nearness: int  # NOTHING … BROKEN
    libraries: Layout | None = None  # complete except for the headers: enough to link against


def lay_out(tree: Tree) -> Layout | NoLibtorch:
    """Find headers and libraries below a root.

    Whether the libraries are complete depends on their contents: see `libraries.incomplete`.
    """
    found = library_dir_of(tree)
    include = include_of(tree, found[0] if found else "lib")
    if found is None:
        return absence(tree, include)
    library_dir, core = found
    if include is None and is_lua(tree, library_dir):
        return NoLibtorch("Lua's Torch7, not PyTorch's libtorch: libTH and libluaT are next to it", RELATED)
    layout = Layout(
        tree=tree,
        kind=kind_of(tree, library_dir),
        include=include or "include",
        library_dir=library_dir,
        cmake_dir=cmake_dir_of(tree, library_dir),
        core=core,
    )
    return layout if include else NoLibtorch(NO_HEADERS, INCOMPLETE, layout)


def library_dir_of(tree: Tree) -> tuple[str, tuple[str, ...]] | None:
    """Return the directory with the core libraries, and their bare names."""
    for directory in ("lib", "lib64", *multiarch_dirs(tree), ""):
        core = {bare for file in tree.names(directory) if (bare := library_name(file)) in CORE}
        if core & {"c10", "torch_cpu"} or (core and not is_lua(tree, directory)):
            return directory, tuple(sorted(filter(None, core)))
    return None


def is_triple(name: str) -> bool:
    """Whether a name is a multiarch triple of Debian, such as `x86_64-linux-gnu`."""
    return TRIPLE.fullmatch(name) is not None


def multiarch_dirs(tree: Tree) -> list[str]:
    """Return Debian's `lib/<triple>` directories."""
    return [f"lib/{name}" for name in tree.names("lib") if is_triple(name)]


def include_of(tree: Tree, library_dir: str) -> str | None:
    """Return the directory that contains `ATen/` and `c10/`."""
    siblings: tuple[str, ...] = () if library_dir else ("../include", "../../include")
    for include in ("include", *siblings):
        if tree.is_dir(f"{include}/ATen") and tree.is_dir(f"{include}/c10"):
            return include
    return None


def cmake_dir_of(tree: Tree, library_dir: str) -> str | None:
    """Return the directory of `TorchConfig.cmake`."""
    below_lib = f"{library_dir}/cmake/Torch" if library_dir else "cmake/Torch"
    for directory in ("share/cmake/Torch", below_lib, "lib/cmake/Torch", "../share/cmake/Torch"):
        if tree.is_file(f"{directory}/TorchConfig.cmake"):
            return directory
    return None


def kind_of(tree: Tree, library_dir: str) -> str:
    """Return the kind of installation; see `Libtorch.layout`."""
    if tree.packed:
        return "wheel" if tree.root.suffix == ".whl" or tree.is_file("version.py") else "zip"
    if is_source_build(tree):
        return "source"
    if tree.is_file("version.py") or tree.root.parent.name in {"site-packages", "dist-packages"}:
        return "pip"
    if tree.is_dir("conda-meta"):
        return "conda"
    if tree.is_file("build-version") or tree.is_file("build-hash"):
        return "zip"
    if is_triple(library_dir) or str(tree.root) in INSTALLED:
        return "system"
    return "zip" if library_dir == "lib" and tree.is_dir("share/cmake/Torch") else "unknown"


def is_source_build(tree: Tree) -> bool:
    """Whether the tree is `torch/` of PyTorch's repository, built in place."""
    repository = tree.is_dir("../aten") and tree.is_dir("../c10")
    return repository or (tree.is_file("../setup.py") and tree.is_file("../build/CMakeCache.txt"))


def is_unpacked_system(layout: Layout) -> bool:
    """Whether it belongs to a system below another directory than `/`: unpacked Debian packages, a sysroot."""
    tree = layout.tree
    return layout.kind == "system" and not tree.packed and os.path.realpath(tree.root) not in INSTALLED


def is_lua(tree: Tree, library_dir: str) -> bool:
    """Whether this is Torch7, the Lua library that PyTorch descends from."""
    return not LUA.isdisjoint(tree.names(library_dir)) or tree.is_file("include/luaT.h")


def absence(tree: Tree, include: str | None) -> NoLibtorch:
    """Return why a root without core libraries is not a libtorch."""
    if is_lua(tree, "lib"):
        return NoLibtorch("Lua's Torch7, not PyTorch's libtorch: libTH and libluaT are there", RELATED)
    if any(not STATIC.isdisjoint(tree.names(directory)) for directory in ("lib", "lib64", "")):
        return NoLibtorch("a static build: only .a libraries, and torchlink links shared ones", INCOMPLETE)
    closed = [path for path in map(tree.path, ("lib", "lib64")) if not tree.packed and is_closed(path)]
    if closed:
        return NoLibtorch(f"{closed[0]} cannot be read: permission denied", BROKEN)
    if include is not None:
        return NoLibtorch("incomplete install: headers without libc10 and libtorch_cpu", BROKEN)
    if tree.packed:
        return NoLibtorch("an archive without a libtorch: no lib/libc10 inside", NOTHING)
    if not tree.is_dir(""):
        return NoLibtorch("no such directory", NOTHING)
    if tree.root.name != "torch":
        return NoLibtorch("nothing of libtorch is there", NOTHING)
    if tree.is_file("__init__.py"):
        return NoLibtorch("a Python package named torch without lib/ and include/", RELATED)
    return NoLibtorch("a directory that is only named torch: no __init__.py, no lib, no include", RELATED)
