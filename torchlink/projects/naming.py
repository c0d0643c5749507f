"""The names of projects: what a build tool or a language accepts, and a directory's name made to fit."""

from __future__ import annotations

import keyword
import re
import sys
from typing import TYPE_CHECKING

from torchlink.errors import UsageError
from torchlink.projects.nim import package_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torchlink.projects.kinds import Kind

TARGET = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]*")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Names of CMake's own targets (policy CMP0037) and of those that TorchConfig.cmake defines.
RESERVED_TARGETS = frozenset({
    "all", "ALL_BUILD", "help", "install", "INSTALL", "preinstall", "clean", "edit_cache", "rebuild_cache",
    "test", "RUN_TESTS", "package", "PACKAGE", "package_source", "ZERO_CHECK",
    "torch", "torch_library", "torch_cpu", "torch_cpu_library", "torch_cuda", "torch_cuda_library",
    "torch_python", "c10", "c10_cuda",
})  # fmt: skip
# Keywords of C++ that are none of Python's; a module of one of these names could not be written in C++.
CXX_KEYWORDS = frozenset({
    "alignas", "alignof", "asm", "auto", "bool", "case", "catch", "char", "char8_t", "char16_t", "char32_t",
    "concept", "const", "consteval", "constexpr", "constinit", "const_cast", "co_await", "co_return",
    "co_yield", "decltype", "default", "delete", "do", "double", "dynamic_cast", "enum", "explicit",
    "export", "extern", "false", "float", "friend", "goto", "inline", "int", "long", "mutable", "namespace",
    "new", "noexcept", "nullptr", "operator", "private", "protected", "public", "register",
    "reinterpret_cast", "requires", "short", "signed", "sizeof", "static", "static_assert", "static_cast",
    "struct", "switch", "template", "this", "thread_local", "throw", "true", "typedef", "typeid",
    "typename", "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t",
})  # fmt: skip
LONGEST = 100  # characters


def name_for(kind: Kind, given: str | None, directory: Path) -> str:
    """Return the name of a project.

    Args:
        kind: says where the name comes from and what it must be.
        given: of --name; None: not given.
        directory: the project's, whose name is made to fit where the kind takes it.

    Raises:
        UsageError: the kind cannot have the given name.
    """
    usual = kind.usual_name
    if given is not None and kind.naming.startswith("fixed:") and given != usual:
        raise UsageError(
            f"--name {given}: the program of a {kind.name} is always called {usual}.", hint="Omit --name."
        )
    if given is None:
        return usual or FITTING[kind.form](directory.absolute().resolve().name)
    problem = "it is too long" if len(given) > LONGEST else PROBLEMS[kind.form](given)
    if problem:
        raise UsageError(
            f"{given!r} cannot be the name of a {kind.name}: {problem}.",
            hint="Choose another one with --name.",
        )
    return given


def target_problem(name: str) -> str:
    """Return why CMake cannot have a target of this name, or ""."""
    if not TARGET.fullmatch(name):
        return "it has characters other than letters, digits and _ . + -, or does not begin with a letter"
    return "CMake or libtorch has a target of that name" if name in RESERVED_TARGETS else ""


def identifier_problem(name: str) -> str:
    """Return why a Python module, or a class in C++, cannot be called so, or ""."""
    if not IDENTIFIER.fullmatch(name):
        return "it has characters other than letters, digits and _, or does not begin with a letter"
    if keyword.iskeyword(name) or name in CXX_KEYWORDS:
        return "it is a keyword"
    if name in sys.stdlib_module_names or name in {"torch", "numpy", "pybind11", "nanobind"}:
        return "a Python module of that name exists"
    return target_problem(name)


def package_problem(name: str) -> str:
    """Return why Nimble rejects a package name, or ""."""
    return "" if package_name(name) == name else f"Nimble rejects it; {package_name(name)} would do"


def fitting_target(name: str) -> str:
    """Return a directory's name as the name of a CMake target."""
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "-", name).strip("-")[:LONGEST]
    fit = plain if TARGET.fullmatch(plain) else f"app-{plain}".rstrip("-")
    return f"{fit}-app" if target_problem(fit) else fit


def fitting_identifier(name: str) -> str:
    """Return a directory's name as an identifier of C++ and Python."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:LONGEST]
    fit = plain if IDENTIFIER.fullmatch(plain) else f"app_{plain}".rstrip("_")
    return f"{fit}_app" if identifier_problem(fit) else fit


PROBLEMS: dict[str, Callable[[str], str]] = {
    "cmake": target_problem,
    "identifier": identifier_problem,
    "nim": package_problem,
}
FITTING: dict[str, Callable[[str], str]] = {
    "cmake": fitting_target,
    "identifier": fitting_identifier,
    "nim": package_name,
}
