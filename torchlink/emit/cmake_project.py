"""CMake projects: a link plan and what is installed in, the files of a project out; nothing is written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.emit.cmake_prefix import CONFIG_DIR
from torchlink.emit.templates import render
from torchlink.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlink.plan import LinkPlan

# Where a project keeps torchlink's prefix, so that no committed file names a path of the machine.
PREFIX_DIR = ".torchlink"
BUILD_DIR = "build"
TARGET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]*")
# Targets of CMake itself (policy CMP0037) and those that TorchConfig.cmake defines.
TAKEN = frozenset({
    "all", "ALL_BUILD", "help", "install", "INSTALL", "preinstall", "clean", "edit_cache", "rebuild_cache",
    "test", "RUN_TESTS", "package", "PACKAGE", "package_source", "ZERO_CHECK",
    "torch", "torch_library", "torch_cpu", "torch_cpu_library", "torch_cuda", "torch_cuda_library",
    "torch_python", "c10", "c10_cuda",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProjectTools:
    """What a project's presets use on this machine."""

    cmake_version: tuple[int, ...]  # () where no CMake was found
    generator: str  # "Ninja" | "Unix Makefiles"
    launcher: str | None  # compiler launcher by its bare name: "ccache" | "sccache"


def project(
    plan: LinkPlan, tools: ProjectTools, sources: Mapping[str, str], name: str = "app"
) -> dict[str, str]:
    """A project that builds one program: file name -> text, without the prefix that belongs in `PREFIX_DIR`.

    Args:
        plan: gives the C++ standard; all else that is libtorch's comes through `find_package(Torch)`.
        tools: decides the presets.
        sources: file name -> text of the program's sources.
        name: of the project, its target and its program.

    Raises:
        UsageError: the name cannot be a target's.
    """
    if not TARGET_NAME.fullmatch(name) or name in TAKEN:
        raise UsageError(
            f"{name!r} cannot be the name of the program: CMake or libtorch has a target of that name, or it "
            "holds other characters than letters, digits and _ . + -.",
            hint="Choose another one with --name.",
        )
    values = {
        "name": name,
        "sources": [source for source in sources if not source.endswith(".h")],
        "standard": plan.cxx_standard,
        "prefix_dir": PREFIX_DIR,
        "build_dir": BUILD_DIR,
    }
    return {
        "CMakeLists.txt": render("cmake/project/CMakeLists.txt.j2", values),
        "CMakePresets.json": presets(tools),
        **sources,
        ".gitignore": render("cmake/project/gitignore.j2", values),
    }


def presets(tools: ProjectTools) -> str:
    """The text of `CMakePresets.json` with the preset `default`; it names no path of the machine."""
    # Build presets, and editors, want version 2, which CMake 3.19 does not read yet.
    version = 1 if tools.cmake_version[:2] == (3, 19) else 2
    variables = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "CMAKE_INSTALL_RPATH_USE_LINK_PATH": "ON",  # an installed program finds libtorch where it lies now
        "Torch_DIR": f"${{sourceDir}}/{PREFIX_DIR}/{CONFIG_DIR}",
    }
    if tools.launcher:
        variables["CMAKE_CXX_COMPILER_LAUNCHER"] = tools.launcher
    minimum = {"major": 3, "minor": 18 + version, "patch": 0}
    configure = {
        "name": "default",
        "displayName": "Release",
        "description": f"libtorch: see {PREFIX_DIR}, made by `torchlink cmake prefix --output {PREFIX_DIR}`",
        "generator": tools.generator,
        "binaryDir": f"${{sourceDir}}/{BUILD_DIR}",
        "cacheVariables": variables,
    }
    text: dict[str, object] = {
        "version": version,
        "cmakeMinimumRequired": minimum,
        "configurePresets": [configure],
    }
    if version > 1:
        text["buildPresets"] = [{"name": "default", "configurePreset": "default"}]
    return json.dumps(text, indent=2) + "\n"
