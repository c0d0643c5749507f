"""The options of a link plan; `verify` reads them before it has time to import all of `plan.py`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - the annotations are evaluated
from typing import NamedTuple


class PlanOptions(NamedTuple):
    """What the user wants from the build."""

    cpu_only: bool = False  # link only what a CPU program needs, even on a CUDA build
    rpath: str = "absolute"  # "absolute" | "none" | "origin=DIR": DIR relative to the program's own directory
    headers: str = "system"  # "system": -isystem | "after": -idirafter, after the system's own headers
    aoti: bool = False  # the program loads AOTInductor packages, which look for libtorch.so by name
    cxx_standard: int | None = None  # None: the best that libtorch and the compiler support
    python_extension: bool = False  # an extension module of Python instead of a program
    tensors: bool = False  # torch.Tensor crosses between Python and that module
    python: str | None = None  # the module's interpreter; None: the one that libtorch belongs to
    plugin: bool = False  # a shared library for dlopen instead of a program
    soname: str | None = None  # of the plugin; None: the build tool knows it, or there is none
    whole_archive: tuple[Path, ...] = ()  # static libraries whose unreferenced objects are linked, too
    # The Python interpreter that the program embeds; "": the one that libtorch belongs to; None: none
    embed_python: str | None = None
    compiles: bool = True  # False: only link flags are needed, so libtorch may lack headers
