"""The initial cache (`cmake -C`) with which torchlink configures an existing project."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.emit import cmake_syntax
from torchlink.emit.cmake_prefix import CONFIG_DIR, PROVIDER
from torchlink.emit.quoting import comment
from torchlink.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

# The names under which projects download libtorch with FetchContent, spelled as in its variables.
FETCHED = ("LIBTORCH", "TORCH")
# The variables of FindPython3, of FindPython, and of FindPythonInterp and pybind11.
PYTHON = ("Python3_EXECUTABLE", "Python_EXECUTABLE", "PYTHON_EXECUTABLE")
OWN = "Set by torchlink"
# The oldest policies that CMake 4 has. It rejects a project, or a library built with it, that requests older ones.
OLDEST_POLICIES = "3.5"
# Options whose value is the next argument unless joined to them.
DIRECTORY_OPTIONS = frozenset({"-S", "-B", "-H"})
VALUE_OPTIONS = frozenset({"-C", "-D", "-U", "-G", "-T", "-A", "--preset", "--toolchain", "--install-prefix"})
# First arguments of cmake command lines that do not configure.
OTHER_MODES = frozenset({"--build", "--install", "--open", "--workflow", "--find-package", "-E", "-P", "-N"})


def initial_cache(
    libtorch: Libtorch,
    prefix: Path,
    launcher: str | None,
    given: Iterable[str] = (),
    cross: Mapping[str, str] | None = None,
) -> str:
    """Return the text of the script.

    A value already in the cache, from the command line, a preset or an earlier run, is kept unless torchlink set it.
    Only `Torch_DIR` is always set: an earlier run may have found another libtorch.

    Args:
        libtorch: what to build against.
        prefix: the prefix with torchlink's own `share/cmake/Torch/TorchConfig.cmake`.
        launcher: compiler launcher, for example `ccache`.
        given: names of variables that the user's command line sets, which are left out.
        cross: variables that make CMake compile for another machine.
    """
    taken = set(given)
    # A source tree has a CMakeLists.txt of its own, which FetchContent would add to the project.
    fetched = prefix if libtorch.layout == "source" else libtorch.root
    variables: dict[str, tuple[str, str]] = {
        "Torch_DIR": ("PATH", cmake_syntax.path(prefix / CONFIG_DIR)),
        "CMAKE_PREFIX_PATH": ("PATH", cmake_syntax.path(prefix)),
        # For find_library(torch_python). Not the root as a prefix: include/ holds other projects' headers.
        "CMAKE_LIBRARY_PATH": ("PATH", cmake_syntax.path(libtorch.library_dir)),
        "CMAKE_INSTALL_RPATH_USE_LINK_PATH": ("BOOL", "TRUE"),
        **{f"FETCHCONTENT_SOURCE_DIR_{name}": ("PATH", cmake_syntax.path(fetched)) for name in FETCHED},
    }
    if "Torch_DIR" not in taken:
        variables["CMAKE_PROJECT_TOP_LEVEL_INCLUDES"] = ("FILEPATH", cmake_syntax.path(prefix / PROVIDER))
    if libtorch.python is not None:
        variables.update({name: ("FILEPATH", cmake_syntax.path(libtorch.python)) for name in PYTHON})
    if launcher:
        variables["CMAKE_CXX_COMPILER_LAUNCHER"] = ("STRING", launcher)
    variables.update({name: ("STRING", value) for name, value in (cross or {}).items()})
    lines = [
        f"# Written by torchlink for libtorch {comment(libtorch.version or 'of unknown version')}; read by cmake -C.",
        "function(_torchlink_set name type value)",
        "  get_property(origin CACHE ${name} PROPERTY HELPSTRING)",
        f'  if(NOT DEFINED CACHE{{${{name}}}} OR name MATCHES "^Torch_DIR$" OR origin STREQUAL "{OWN}")',
        f'    set(${{name}} "${{value}}" CACHE ${{type}} "{OWN}" FORCE)',
        "  endif()",
        "endfunction()",
        *(
            f"_torchlink_set({name} {kind} {cmake_syntax.quote(value)})"
            for name, (kind, value) in variables.items()
            if name not in taken
        ),
    ]
    policies = "CMAKE_POLICY_VERSION_MINIMUM"
    if policies not in taken:
        lines += [
            f"if(NOT DEFINED ENV{{{policies}}})",
            f"  _torchlink_set({policies} STRING {OLDEST_POLICIES})",
            "endif()",
        ]
    return "\n".join(lines) + "\n"


def given_variables(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the variables that a cmake command line sets (`-DNAME=…`, `-D NAME:TYPE=…`)."""
    definitions = [
        word[2:] or following
        for word, following in zip(arguments, (*arguments[1:], ""), strict=False)
        if word.startswith("-D")
    ]
    return tuple(definition.partition("=")[0].partition(":")[0] for definition in definitions)


def has_toolchain(arguments: Sequence[str]) -> bool:
    """Whether a cmake command line names a toolchain file, or the machine to compile for."""
    names = given_variables(arguments)
    return any(word.startswith("--toolchain") for word in arguments) or not {
        "CMAKE_TOOLCHAIN_FILE",
        "CMAKE_SYSTEM_NAME",
    }.isdisjoint(names)


def check_arguments(arguments: Sequence[str], here: str) -> None:
    """Check that a cmake command line configures a project.

    Args:
        arguments: the arguments of cmake.
        here: the directory that it is started in, as cmake sees it (`working_directory`).

    Raises:
        UsageError: it does something else, for which torchlink is not needed.
        InexpressibleError: CMake cannot work in the directory of the source or of the build.
    """
    mode = next((word for word in arguments[:1] if word in OTHER_MODES), None)
    if mode:
        raise UsageError(
            f"cmake {mode} does not configure a project, so it does not need torchlink.",
            hint=f"Run cmake {mode} itself.",
        )
    for directory in directories(arguments, here):
        cmake_syntax.check_directory(directory)


def directories(arguments: Sequence[str], here: str) -> tuple[str, ...]:
    """Return the absolute source and build directories of a cmake command line; `here` is the default of both."""
    named: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        if word[:2] in DIRECTORY_OPTIONS:
            named[word[:2]] = word[2:] or next(words, "")
        elif word in VALUE_OPTIONS:
            next(words, None)
        elif not word.startswith("-"):
            named["-S"] = word
    both = (named.get("-S", named.get("-H", "")), named.get("-B", ""))
    return tuple(dict.fromkeys(os.path.normpath(os.path.join(here, name)) for name in both))  # noqa: PTH118
