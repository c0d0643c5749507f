"""CMake projects: the files of a project for a link plan and the installed tools; nothing is written here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.emit.cmake_prefix import CONFIG_DIR
from torchlink.emit.templates import render, render_file
from torchlink.errors import UsageError
from torchlink.paths import data_dir
from torchlink.projects.naming import target_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.plan import LinkPlan


# The directory of torchlink's prefix in a project, so that no committed file contains a path of this machine.
PREFIX_DIR = ".torchlink"
BUILD_DIR = "build"
PRECOMPILE = "PRECOMPILE_TORCH"  # the option of CMakeLists.txt that precompiles libtorch's header


@dataclass(frozen=True, slots=True)
class ProjectTools:
    """The tools of this machine that a project's presets use."""

    cmake_version: tuple[int, ...]  # () where no CMake was found
    generator: str  # "Ninja" | "Unix Makefiles"
    launcher: str | None  # compiler launcher by its bare name: "ccache" | "sccache"


def project(
    plan: LinkPlan, tools: ProjectTools, sources: Mapping[str, str], name: str = "app"
) -> dict[str, str]:
    """Return a project that builds one program: file name -> text, without the prefix in `PREFIX_DIR`.

    Args:
        plan: sets the C++ standard; everything else about libtorch comes through `find_package(Torch)`.
        tools: for the presets.
        sources: file name -> text of the program's sources.
        name: of the project, the target and the program.

    Raises:
        UsageError: the name is not possible for a target.
    """
    problem = target_problem(name)
    if problem:
        raise UsageError(
            f"{name!r} cannot be the name of the program: {problem}.", hint="Choose another one with --name."
        )
    values = {
        "name": name,
        "sources": [source for source in sources if not source.endswith(".h")],
        "standard": plan.cxx_standard,
        "prefix_dir": PREFIX_DIR,
        "build_dir": BUILD_DIR,
    }
    return {
        "CMakeLists.txt": render_file(data_dir("examples") / "cpp" / "CMakeLists.txt.j2", values),
        "CMakePresets.json": presets(precompiled_header=True),
        "CMakeUserPresets.json": user_presets(tools),
        **sources,
        ".gitignore": render("cmake/project/gitignore.j2", values),
    }


def presets(*, precompiled_header: bool = False) -> str:
    """Return `CMakePresets.json` with the preset `default`, which is independent of the machine.

    With `precompiled_header`, also `pch`, which precompiles libtorch's header in a build directory of its own.
    From version 3 (CMake 3.21) a preset needs no generator.
    """
    variables = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "Torch_DIR": f"${{sourceDir}}/{PREFIX_DIR}/{CONFIG_DIR}",
    }
    configure = {
        "name": "default",
        "displayName": "Release",
        "description": f"libtorch: see {PREFIX_DIR}, written by `torchlink cmake prefix --output {PREFIX_DIR}`",
        "binaryDir": f"${{sourceDir}}/{BUILD_DIR}",
        "cacheVariables": variables,
    }
    precompiled = {
        "name": "pch",
        "displayName": "Release, with a precompiled header",
        "inherits": "default",
        "binaryDir": f"${{sourceDir}}/{BUILD_DIR}-pch",
        "cacheVariables": {PRECOMPILE: "ON"},
    }
    all_presets = [configure, precompiled] if precompiled_header else [configure]
    return _presets(all_presets, {"cmakeMinimumRequired": {"major": 3, "minor": 21, "patch": 0}})


def user_presets(tools: ProjectTools) -> str:
    """Return `CMakeUserPresets.json` with the preset `local`: `default` with the tools of this machine."""
    configure: dict[str, object] = {
        "name": "local",
        "displayName": "Release, with this machine's tools",
        "inherits": "default",
        "generator": tools.generator,
        "binaryDir": f"${{sourceDir}}/{BUILD_DIR}-local",
    }
    if tools.launcher:
        configure["cacheVariables"] = {"CMAKE_CXX_COMPILER_LAUNCHER": tools.launcher}
    return _presets([configure], {})


def _presets(configure: Sequence[Mapping[str, object]], more: Mapping[str, object]) -> str:
    build = [{"name": each["name"], "configurePreset": each["name"]} for each in configure]
    text = {"version": 3, **more, "configurePresets": configure, "buildPresets": build}
    return json.dumps(text, indent=2) + "\n"
