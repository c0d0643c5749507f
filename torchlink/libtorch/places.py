"""The places to look for a libtorch, in order: paths with how each was found; nothing is checked here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.disk import is_dir
from torchlink.libtorch.environment import Environment, environment_at, running_sites
from torchlink.libtorch.interpreter import environment_of, interpreter_on_path
from torchlink.libtorch.packages import torch_in, unread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The user named the libtorch by one of these: a broken one is an error, and no other is used instead.
NAMED = ("--libtorch", "--python", "--python front-end", "TORCHLINK_LIBTORCH")
FRONT_END = (
    "front-end"  # the value of --python for the interpreter that runs pip, build or uv (libtorch/frontend.py)
)
# Variables with one path each; other tools read them too (tch-rs, torch-sys, upstream's TorchConfig).
VARIABLES = ("TORCHLINK_LIBTORCH", "LIBTORCH", "TORCH_INSTALL_PREFIX", "Torch_DIR")
# Where projects that vendor a libtorch unpack it, according to the sources and READMEs of C++, Rust, Go,
# Nim, Haskell, Elixir and OCaml projects; CMake's FetchContent puts it into `_deps`.
VENDORED = (
    "libtorch",
    "vendor/libtorch",
    "third_party/libtorch",
    "thirdparty/libtorch",
    "3rdparty/libtorch",
    "external/libtorch",
    "extern/libtorch",
    "deps/libtorch",
    "dependencies/libtorch",
    "lib/libtorch",
    "libs/libtorch",
    "build/_deps/libtorch-src",
    "_deps/libtorch-src",
    "../libtorch",
    "../deps/libtorch",
)
SYSTEM = (
    "/usr",
    "/usr/local",
    "/usr/local/libtorch",
    "/usr/local/lib/libtorch",
    "/opt/libtorch",
    "/opt/homebrew",
    "/opt/homebrew/opt/pytorch",
    "/usr/local/opt/pytorch",
    "~/libtorch",
    "~/.local",
)


class Place(NamedTuple):
    """A path to look at."""

    path: Path
    found_by: str
    expected: bool  # a libtorch should be there: its absence is reported
    absent: str | None = None  # why there is nothing to look at, if already known


def named_places(libtorch: Sequence[Path], python: str | None) -> Iterator[Place]:
    """Yield the places of `--libtorch`, then of `--python`.

    Raises:
        ToolMissingError: no such interpreter.
    """
    for path in libtorch:
        yield Place(path.expanduser(), "--libtorch", expected=True)
    if python == FRONT_END:
        from torchlink.libtorch.frontend import outer_environment

        outer = outer_environment()
        yield from of_environment(outer, "--python front-end", str(outer.python))
    elif python is not None:
        yield from of_environment(environment_of(python, thorough=True), "--python", python)


def places() -> Iterator[Place]:
    """Yield every place in the documented order; lazily, because the first usable one ends the search."""
    yield from from_variables()
    yield from active_environments()
    for name in VENDORED:
        if is_dir(name):
            yield Place(Path(name).absolute(), name if name.startswith("..") else f"./{name}", expected=False)
    if os.environ.get("OPAM_SWITCH_PREFIX"):
        opam = Path(os.environ["OPAM_SWITCH_PREFIX"]) / "lib" / "libtorch"
        yield Place(opam, "opam switch", expected=False)
    python = interpreter_on_path()
    if python is not None:
        yield from of_environment(environment_of(python), "python3 on PATH", python)
    own = Environment(Path(sys.prefix), Path(sys.executable), tuple(running_sites()))
    yield from of_environment(own, "the Python that runs torchlink", sys.executable)
    for name in SYSTEM:
        yield Place(Path(name).expanduser(), "system", expected=False)


def from_variables() -> Iterator[Place]:
    """Yield the places that environment variables name."""
    for variable in VARIABLES:
        if os.environ.get(variable):
            yield Place(Path(os.environ[variable]).expanduser(), variable, expected=True)
    for entry in os.environ.get("CMAKE_PREFIX_PATH", "").replace(";", os.pathsep).split(os.pathsep):
        if entry:
            yield Place(Path(entry), "CMAKE_PREFIX_PATH", expected=False)


def active_environments() -> Iterator[Place]:
    """Yield the active virtual environment, then the conda environment, whose prefix may be a libtorch itself."""
    if os.environ.get("VIRTUAL_ENV"):
        prefix = Path(os.environ["VIRTUAL_ENV"])
        yield from of_environment(environment_at(prefix), "active virtual environment", str(prefix))
    if os.environ.get("CONDA_PREFIX"):
        prefix = Path(os.environ["CONDA_PREFIX"])
        yield Place(prefix, "active conda environment", expected=False)
        yield from of_environment(environment_at(prefix), "active conda environment", str(prefix))


def of_environment(environment: Environment, found_by: str, name: str) -> Iterator[Place]:
    """Yield the torch directories of an environment in the order of its sys.path; without any, the reason."""
    found = False
    for site in environment.sites:
        for path in torch_in(site):
            found = True
            yield Place(path, found_by, expected=True)
    if not found:
        reason = next(filter(None, map(unread, environment.sites)), None) or "no torch is installed there"
        yield Place(Path(name), found_by, expected=True, absent=reason)


def searched() -> list[str]:
    """Return what was searched, for the error when nothing was found: one line per group."""
    return [
        f"variables: {', '.join((*VARIABLES, 'CMAKE_PREFIX_PATH', 'VIRTUAL_ENV', 'CONDA_PREFIX'))}",
        f"below {Path.cwd()}: {', '.join(VENDORED)}",
        f"system: {', '.join(SYSTEM)}",
    ]
