"""The files of a new project: its kind's own, rendered, and those of its build tool; nothing is written here.

In a kind's directory (see `kinds.py`), `X.j2` is rendered to `X` and any other file is copied. `NAME` in a path stands
for the project's name, and `variants/V/` is laid over the project for the variant V. A file that kind.toml names under
`[shared]` is handled as if it were in that directory.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.emit.templates import render, render_file
from torchlink.errors import LibtorchUnusableError, UsageError
from torchlink.libtorch.version import release
from torchlink.paths import data_dir
from torchlink.projects import cmake, nim
from torchlink.projects.kinds import DESCRIPTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torchlink.plan import LinkPlan
    from torchlink.projects.cmake import ProjectTools
    from torchlink.projects.kinds import Kind

VARIANTS = "variants"
RENDERED = ".j2"
NAME = re.compile("NAME(?![A-Z])")  # but not in R's NAMESPACE
CAPI_DIR = f"{cmake.PREFIX_DIR}/capi"  # of the C API, relative to the project's directory
MODEL = "loader/tiny.pt"  # in templates/: forward(x: float32[N,4]) -> float32[N,2]
# What building or running a kind inside torchlink's own repository leaves in its directory.
LEFTOVERS = re.compile(
    r"(^|/)(build(-[^/]+)?|\.torchlink|__pycache__|\.pytest_cache|\.cache|nimcache|target"
    r"|dist-newstyle|node_modules|library)/|\.(pyc|o|so)$"
)


class NewProject(NamedTuple):
    """A project before it is written."""

    kind: Kind
    name: str
    files: Mapping[str, str | bytes]  # by their name relative to the project's directory
    commands: tuple[str, ...]  # shell lines that build, test and run it, from inside that directory


def new_project(
    kind: Kind,
    name: str,
    plan: LinkPlan | None,
    tools: ProjectTools | None,
    variant: str | None = None,
) -> NewProject:
    """Return a new project.

    Args:
        kind: what to start.
        name: of the project, valid for this kind.
        plan: for this machine's libtorch; None for a kind that finds it when it is built.
        tools: of this machine, for a kind that CMake builds.
        variant: one of the kind's; None: its first, if it has any.

    Raises:
        UsageError: the kind has no such variant.
        LibtorchUnusableError: the kind needs a newer libtorch.
    """
    if variant is not None and variant not in kind.variants:
        raise UsageError(
            f"--{variant} is not an option of the kind {kind.name}.",
            hint=f"Its own are: {', '.join(f'--{each}' for each in kind.variants)}."
            if kind.variants
            else f"Omit --{variant}.",
        )
    if plan is not None:
        check_age(kind, plan)
    chosen = variant or next(iter(kind.variants), None)
    commands = tuple(command.replace("{name}", name) for command in kind.commands)
    version = release(plan.libtorch.version) if plan is not None and plan.libtorch.version else None
    values: dict[str, object] = {
        "kind": kind.name,
        "name": name,
        "class_name": camel_case(name),
        "summary": kind.summary,
        "language": kind.language,
        "commands": commands,
        "serves": kind.serves,
        "build": kind.build,
        "capi": kind.capi,
        "capi_dir": CAPI_DIR,
        "capi_command": f"torchlink capi {CAPI_DIR}",
        "lint": tuple(path.replace("{name}", name) for path in kind.lint),
        "system": kind.system,
        "pip": kind.pip,
        "variant": chosen,
        "prefix_dir": cmake.PREFIX_DIR,
        "prefix_command": prefix_command(kind),
        "build_dir": cmake.BUILD_DIR,
        "standard": plan.cxx_standard if plan is not None else None,
        "version": ".".join(map(str, version)) if version else None,
    }
    own: dict[str, str | bytes] = {}
    for path, file in _files(kind):
        inner = path.split("/")
        if inner[0] == VARIANTS and inner[1] != chosen:
            continue
        place = NAME.sub(name, "/".join(inner[2:] if inner[0] == VARIANTS else inner))
        own[place.removesuffix(RENDERED)] = (
            render_file(file, values) if place.endswith(RENDERED) else file.read_bytes()
        )
    files = {
        **_of_build_tool(kind, name, plan, tools, own.get("CMakeLists.txt", "")),
        ".gitignore": render("project/gitignore.j2", values),
        ".github/workflows/ci.yml": render("project/ci.yml.j2", values),
        **({kind.model: (data_dir("templates") / MODEL).read_bytes()} if kind.model else {}),
        **own,
    }
    return NewProject(kind, name, files, commands)


def prefix_command(kind: Kind) -> str:
    """Return the command that writes the prefix of a CMake project again, in a fresh clone."""
    return f"torchlink cmake prefix{' --aoti' if kind.aoti else ''} --output {cmake.PREFIX_DIR}"


def check_age(kind: Kind, plan: LinkPlan) -> None:
    """Refuse a libtorch that is older than the kind's programs compile with.

    Raises:
        LibtorchUnusableError: it is.
    """
    version = plan.libtorch.version
    number = release(version) if version else None
    if kind.libtorch is None or number is None:
        return
    oldest = tuple(int(part) for part in kind.libtorch.split("."))
    if number < oldest:
        raise LibtorchUnusableError(
            f"{plan.libtorch.root}: libtorch {version} is too old: {kind.name} needs {kind.libtorch} or newer.",
            hint="Name a newer libtorch with --libtorch.",
        )


def camel_case(name: str) -> str:
    """Return an identifier in CamelCase: `image_net` is `ImageNet`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _of_build_tool(
    kind: Kind, name: str, plan: LinkPlan | None, tools: ProjectTools | None, cmake_lists: str | bytes
) -> dict[str, str | bytes]:
    """Return the files that a build tool needs for this machine's libtorch."""
    if kind.build == "cmake" and tools is not None:
        return {
            "CMakePresets.json": cmake.presets(precompiled_header=cmake.PRECOMPILE in str(cmake_lists)),
            "CMakeUserPresets.json": cmake.user_presets(tools),
        }
    if kind.build == "nim" and plan is not None:
        return dict(nim.build_files(plan, name))
    return {}


def _files(kind: Kind) -> Iterator[tuple[str, Path]]:
    """Yield a kind's files with their paths relative to its directory, in order; variants after the others."""
    own = {file.relative_to(kind.directory).as_posix(): file for file in kind.directory.rglob("*")}
    both = {**own, **kind.shared}
    for path in sorted(both, key=lambda path: (path.split("/")[0] == VARIANTS, path.split("/"))):
        if both[path].is_file() and path != DESCRIPTION and not LEFTOVERS.search(path):
            yield path, both[path]
