"""torchlink's own `TorchConfig.cmake`: a prefix whose `find_package(Torch)` has no further requirements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.emit import cmake, cmake_syntax
from torchlink.emit.quoting import comment
from torchlink.emit.templates import render
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlink.plan import LinkPlan, PlanLibrary

CONFIG_DIR = "share/cmake/Torch"  # below the prefix; the value of Torch_DIR
PROVIDER = f"{CONFIG_DIR}/TorchlinkProvider.cmake"
FILES = (
    "TorchConfig.cmake",
    "TorchConfigVersion.cmake",
    "TorchlinkConsumers.cmake",
    "TorchlinkProvider.cmake",
)
# Functions for projects; the same for all plans.
MODULES = ("TorchlinkLint.cmake", "TorchlinkPlugin.cmake", "TorchlinkPython.cmake")
# The variables of upstream's file that name one library; TORCH_LIBRARY is set separately.
VARIABLES = {"c10": "C10_LIBRARY", "c10_cuda": "C10_CUDA_LIBRARY"}
# Upstream also has a target NAME_library for these, which keeps the library linked.
UPSTREAM_LIBRARIES = ("torch_cpu", "torch_cuda", "torch_hip", "torch_xpu")
CUDA = ("torch_cuda", "c10_cuda")
CPU_CODE = ("torch_cpu", "torch")  # the library with the code, newest layout first
# ELF's name of a machine → values of CMAKE_SYSTEM_PROCESSOR.
MACHINE_NAMES = {"x86_64": ("x86_64", "amd64", "AMD64"), "aarch64": ("aarch64", "arm64", "ARM64")}
DEFINITION = re.compile(r'^\s*INTERFACE_COMPILE_DEFINITIONS "([\w;=]+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Library:
    """An imported target of the prefix."""

    name: str  # of the target; also the bare name of the library
    file: Path  # for the linker
    location: Path  # for the loader
    implib: str  # Windows: the .lib; empty elsewhere
    links: str  # the targets that it links, as a list
    variable: str  # upstream's variable for the file, if any
    upstream_library: bool  # upstream has a target NAME_library too


def files(plan: LinkPlan, definitions: Sequence[str] = (), main_size: int | None = None) -> dict[str, str]:
    """Return the files of the prefix by relative name; the same plan gives the same text.

    Args:
        plan: the flags to provide. Its C++ standard is not used: a project keeps its own unless libtorch's headers do
            not compile with it.
        definitions: the interface definitions of upstream's targets (`upstream_definitions`).
        main_size: size of the library with the CPU code, by which CMake notices a later change of libtorch; None omits
            the check.

    Raises:
        InexpressibleError: CMake cannot pass on a path of the plan.
    """
    libraries = _libraries(plan)
    main = main_library(plan)
    names = [library.name for library in libraries]
    base = "c10" if "c10" in names else names[0]
    version = plan.libtorch.version or ""
    values = {
        "title": comment(f"libtorch {version or 'of unknown version'} in {plan.libtorch.root}"),
        "version": re.sub(r"[^0-9.].*", "", version, flags=re.DOTALL),
        "root": plan.libtorch.root,
        "include_dirs": plan.include_dirs,
        "include_after": cmake.include_after(plan) if plan.options.headers == "after" else "",
        "library_dir": plan.libtorch.library_dir,
        "libraries": libraries,
        "main": main,
        "main_size": main_size,
        "arch": MACHINE_NAMES.get(plan.libtorch.arch, ()) if plan.platform == "linux" else (),
        "base": base,
        "standard": plan.options.cxx_standard or plan.libtorch.cxx_standard_required,
        "abi": dict(plan.defines).get("_GLIBCXX_USE_CXX11_ABI", ""),
        "cxx_flags": " ".join(f"-D{name}={value}" for name, value in plan.defines),
        "definitions": definitions,
        "torch_libraries": list(dict.fromkeys(("torch", "torch_library", base))),
        "bundled_dirs": () if plan.options.headers == "after" else plan.include_dirs,
        "cuda_targets": [name for name in CUDA if name in names],
        "cuda_include_dirs": () if plan.options.headers == "after" else plan.cuda_include_dirs,
        # Without the target `torch`, which keeps libraries linked.
        "extension_libraries": [
            library.name
            for library in plan.libraries
            if library.name in names and (library.name != "torch" or main.name == "torch")
        ],
        "python": plan.libtorch.python,
        "link_items": [
            *cmake.kept_items(plan),
            # The file of torch, because the target `torch` links these items.
            *(
                cmake_syntax.path(library.file) if library.name == "torch" else library.name
                for library in plan.libraries
                if not library.keep
            ),
            *cmake.search_items(plan),
        ],
    }
    filters = {
        "quote": cmake_syntax.quote,
        "path": lambda file: cmake_syntax.quote(cmake_syntax.path(file)),
        "path_list": cmake_syntax.path_list,
    }
    texts = {f"{CONFIG_DIR}/{name}": render(f"cmake/prefix/{name}.j2", values, filters) for name in FILES}
    for name in MODULES:
        module = (data_dir("templates") / "cmake" / name).read_text(encoding="utf-8")
        texts[f"{CONFIG_DIR}/{name}"] = f"# Written by torchlink; the same for all libtorchs.\n#\n{module}"
    return texts


def upstream_definitions(targets: str, *, cpu_only: bool) -> tuple[str, ...]:
    """Return the interface definitions of upstream's targets, from the text of `Caffe2Targets.cmake`.

    Without them (`USE_C10D_GLOO`) headers of torch.distributed are empty.
    """
    found: dict[str, None] = {}
    for block in targets.split("\nset_target_properties(")[1:]:
        name = block.split(maxsplit=1)[0]
        definition = DEFINITION.search(block)
        if definition and name.startswith(("torch_cpu",) if cpu_only else UPSTREAM_LIBRARIES):
            found.update(dict.fromkeys(definition[1].split(";")))
    return tuple(found)


def main_library(plan: LinkPlan) -> PlanLibrary:
    """Return the library with the CPU code."""
    by_name = {library.name: library for library in plan.libraries}
    return next((by_name[name] for name in CPU_CODE if name in by_name), plan.libraries[-1])


def _libraries(plan: LinkPlan) -> tuple[Library, ...]:
    """Return the imported targets: libtorch's own libraries in the plan, `torch`, and `torch_python` if it exists."""
    own = {
        library.name: library.file
        for library in plan.libraries
        if library.file.parent == plan.libtorch.library_dir
    }
    main = main_library(plan)
    # Upstream's `torch` is a stub that needs the others; where the plan does not link it, `torch` is the library with
    # the code.
    own.setdefault("torch", main.file)
    python = next(
        (file for file in plan.libtorch.libraries if re.match(r"(lib)?torch_python\.(so|dylib|lib)", file)),
        None,
    )
    if python:
        own["torch_python"] = plan.libtorch.library_dir / python
    return tuple(
        Library(
            name=name,
            file=file,
            location=file.with_suffix(".dll") if file.suffix == ".lib" else file,
            implib=str(file) if file.suffix == ".lib" else "",
            links=_links(name, main.name, own),
            variable=VARIABLES.get(name, ""),
            upstream_library=name in UPSTREAM_LIBRARIES,
        )
        for name, file in own.items()
    )


def _links(name: str, main: str, own: dict[str, Path]) -> str:
    """Return the targets that a library links, so that linking it alone provides what its headers need."""
    if name == "torch":
        return "torch_library"
    if name == "torch_python":
        return "torch"
    if name.startswith(("c10", "caffe2")) or name == main:
        return "c10" if name != "c10" and "c10" in own else ""
    return main
