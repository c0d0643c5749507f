"""Where a libtorch's parts lie below its root, or why a directory holds no libtorch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.libtorch.tree import Tree

# lib<name>.so, with Debian's versions behind; .dylib; on Windows the import library or the DLL itself.
CORE = re.compile(r"(?:lib)?(c10|torch|torch_cpu|caffe2)(?:\.so(?:\.[\d.]+)?|\.dylib|\.dll|\.lib)")
STATIC = re.compile(r"lib(c10|torch_cpu)\.a")
LUA = re.compile(r"lib(TH|luaT|luajit|torch-lua)\.(so|dylib|a)")
TRIPLE = re.compile(r"(x86_64|aarch64|i386|arm|riscv64|powerpc64le|s390x|loongarch64)-linux-gnu\w*")

# How close a place is to a libtorch; the nearest one's reason is worth telling.
NOTHING, KIN, PART, HALF = range(4)


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of one libtorch; names relative to `tree.root`."""

    tree: Tree
    kind: str  # see Libtorch.layout
    include: str
    library_dir: str
    cmake_dir: str | None  # holds TorchConfig.cmake
    core: tuple[str, ...]  # bare names of the core libraries there: "c10", "torch", "torch_cpu", "caffe2"


@dataclass(frozen=True, slots=True)
class NoLibtorch:
    """Why a place holds no libtorch."""

    reason: str  # a sentence without a final full stop
    nearness: int  # NOTHING … HALF


def lay_out(tree: Tree) -> Layout | NoLibtorch:
    """Find headers and libraries below a root.

    Whether the libraries there are complete is `libraries.incomplete`'s to say: that needs their contents.
    """
    found = library_dir_of(tree)
    include = include_of(tree, found[0] if found else "lib")
    if found is None:
        return absence(tree, include)
    library_dir, core = found
    if include is None:
        if is_lua(tree, library_dir):
            return NoLibtorch("Lua's Torch7, not PyTorch's libtorch: libTH and libluaT lie beside it", KIN)
        return NoLibtorch("no headers: include/ATen is missing", PART)
    return Layout(
        tree=tree,
        kind=kind_of(tree, library_dir),
        include=include,
        library_dir=library_dir,
        cmake_dir=cmake_dir_of(tree, library_dir),
        core=core,
    )


def library_dir_of(tree: Tree) -> tuple[str, tuple[str, ...]] | None:
    """The directory with the core libraries, and their bare names."""
    for directory in ("lib", "lib64", *multiarch_dirs(tree), ""):
        core = {match[1] for name in tree.names(directory) if (match := CORE.fullmatch(name))}
        if core & {"c10", "torch_cpu"} or (core and not is_lua(tree, directory)):
            return directory, tuple(sorted(core))
    return None


def multiarch_dirs(tree: Tree) -> list[str]:
    """Debian's `lib/<triple>` directories."""
    return [f"lib/{name}" for name in tree.names("lib") if TRIPLE.fullmatch(name)]


def include_of(tree: Tree, library_dir: str) -> str | None:
    """The directory that holds `ATen/` and `c10/`."""
    beside = () if library_dir else ("../include", "../../include")
    for include in ("include", *beside):
        if tree.is_dir(f"{include}/ATen") and tree.is_dir(f"{include}/c10"):
            return include
    return None


def cmake_dir_of(tree: Tree, library_dir: str) -> str | None:
    """The directory of `TorchConfig.cmake`."""
    for directory in (
        "share/cmake/Torch",
        f"{library_dir}/cmake/Torch",
        "lib/cmake/Torch",
        "../share/cmake/Torch",
    ):
        if tree.is_file(f"{directory}/TorchConfig.cmake"):
            return directory
    return None


def kind_of(tree: Tree, library_dir: str) -> str:
    """What sort of installation this is; see `Libtorch.layout`."""
    if tree.packed:
        return "wheel" if tree.root.suffix == ".whl" else "zip"
    if tree.is_file("version.py"):
        return "source" if tree.is_file("../setup.py") and tree.is_dir("../aten") else "pip"
    if tree.is_dir("conda-meta"):
        return "conda"
    if tree.is_file("build-version") or tree.is_file("build-hash"):
        return "zip"
    if TRIPLE.search(library_dir) or str(tree.root) in {"/usr", "/usr/local"}:
        return "system"
    return "zip" if library_dir == "lib" and tree.is_dir("share/cmake/Torch") else "unknown"


def is_lua(tree: Tree, library_dir: str) -> bool:
    """Whether Torch7, the Lua library that PyTorch descends from, lies there."""
    return any(LUA.fullmatch(name) for name in tree.names(library_dir)) or tree.is_file("include/luaT.h")


def absence(tree: Tree, include: str | None) -> NoLibtorch:
    """Say what a root without core libraries is."""
    if is_lua(tree, "lib"):
        return NoLibtorch("Lua's Torch7, not PyTorch's libtorch: libTH and libluaT lie there", KIN)
    if any(STATIC.fullmatch(name) for directory in ("lib", "lib64", "") for name in tree.names(directory)):
        return NoLibtorch("a static build: only .a libraries, and torchlink links shared ones", PART)
    if include is not None:
        return NoLibtorch("half an install: headers without libc10 and libtorch_cpu", HALF)
    if tree.packed:
        return NoLibtorch("an archive without a libtorch: no lib/libc10 inside", NOTHING)
    if not tree.is_dir(""):
        return NoLibtorch("no such directory", NOTHING)
    if tree.root.name == "torch" and not tree.is_file("__init__.py"):
        return NoLibtorch("a directory that is only named torch: no __init__.py, no lib, no include", KIN)
    if tree.root.name == "torch":
        return NoLibtorch("a Python package named torch without lib/ and include/", KIN)
    return NoLibtorch("nothing of libtorch is there", NOTHING)
