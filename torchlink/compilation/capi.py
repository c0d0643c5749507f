"""The C API over libtorch: its library, built and cached like the loader, and the files that a user gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from torchlink import atomic
from torchlink.compilation.loader import built
from torchlink.compilation.recipe import Recipe, source_dir
from torchlink.emit import cxx, pkg_config, quoting
from torchlink.errors import InexpressibleError, LibtorchUnusableError, WouldOverwriteError
from torchlink.libtorch.version import release
from torchlink.paths import data_dir
from torchlink.projects.writing import write_project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torchlink.compilation.loader import BuiltLoader
    from torchlink.plan import LinkPlan
    from torchlink.toolchain.types import Compiler

NAME = "torchmodel"
HEADER = f"{NAME}.h"
EXPORTS = "exports.map"
SONAME = f"lib{NAME}.so.1"  # 1: TM_VERSION of torchmodel.h
SHARED = f"lib{NAME}.so"
STATIC = f"lib{NAME}.a"
UNITS = ("torchmodel", "package")  # each a .cpp
FROM_LOADER = ("api.h", "json.h", "values.h", "aoti_spec.h", "aoti_inputs.h", "tensors.h", "older_values.h")
OLDEST = (2, 0)
OPTIONS = ("-O2", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden")


class CApi(NamedTuple):
    """The C API for one libtorch."""

    library: BuiltLoader
    files: dict[str, str | bytes]  # header and .pc by name; the library is `library.path`
    link_name: str  # what -ltorchmodel finds
    file_name: str  # the library's own name


def c_api(
    plan: LinkPlan,
    compiler: Compiler,
    directory: Path,
    *,
    static: bool = False,
    started: Callable[[], None] = lambda: None,
) -> CApi:
    """Return the C API for a plan.

    Args:
        plan: the libtorch and how to link it.
        compiler: builds the library.
        directory: where it will be; its .pc file names it.
        static: an archive instead of a shared library.
        started: called before something is compiled.

    Raises:
        LibtorchUnusableError: libtorch is older than the library compiles with.
        BuildFailedError: it does not compile or link.
        FileError: the cache cannot be written.
    """
    number = release(plan.libtorch.version) if plan.libtorch.version else None
    if number is not None and number < OLDEST:
        raise LibtorchUnusableError(
            f"{plan.libtorch.root}: libtorch {plan.libtorch.version} is too old for the C API.",
            hint="Name libtorch 2.0 or newer with --libtorch.",
        )
    pc = pc_file(plan, directory, static=static)
    library = built(recipe(plan, compiler, static=static), plan, compiler, started)
    files: dict[str, str | bytes] = {
        HEADER: (source_directory() / HEADER).read_bytes(),
        f"{NAME}.pc": pc,
    }
    return CApi(library, files, STATIC if static else SHARED, STATIC if static else SONAME)


def write(made: CApi, directory: Path, *, force: bool = False) -> tuple[Path, ...]:
    """Write the C API to a directory, and return the files.

    Raises:
        WouldOverwriteError: a file has other content and `force` is off; nothing was written.
        FileError: the directory cannot be written.
    """
    files = {**made.files, made.file_name: made.library.path.read_bytes()}
    link = directory / made.link_name
    in_the_way = made.link_name != made.file_name and not link.is_symlink() and os.path.lexists(link)
    if in_the_way and not force:
        raise WouldOverwriteError(
            f"{directory} already contains {made.link_name}; nothing was written.",
            hint="Name another directory, or use --force to overwrite.",
        )
    written = write_project(files, directory, force=force)
    if made.link_name == made.file_name:
        return written
    try:
        if in_the_way:
            link.unlink()
        atomic.write_link(link, made.file_name)
    except OSError as error:
        raise atomic.unwritable(link, error) from error
    return (*written, link)


def recipe(plan: LinkPlan, compiler: Compiler, *, static: bool) -> Recipe:
    """Return how the library is built in an empty directory, with exactly the flags of the plan."""
    flags = cxx.flags(plan, "compile")
    compile_steps = tuple(
        (
            *compiler.command,
            *OPTIONS,
            *("-I", str(source_directory()), "-I", str(source_dir())),
            *("-c", str(source_directory() / f"{unit}.cpp"), "-o", f"{unit}.o"),
            *("-MD", "-MF", f"{unit}.d"),
            *flags,
        )
        for unit in UNITS
    )
    objects = tuple(f"{unit}.o" for unit in UNITS)
    if static:
        finish: tuple[str, ...] = ("ar", "rcs", STATIC, *objects)
    else:
        exports = source_directory() / EXPORTS
        finish = (
            *compiler.command,
            *("-shared", "-o", SONAME, *objects),
            *(f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={exports}", "-Wl,--no-undefined"),
            *cxx.flags(plan, "link"),
        )
    return Recipe(
        "capi-static" if static else "capi",
        sources(),
        (*compile_steps, finish),
        STATIC if static else SONAME,
    )


def pc_file(plan: LinkPlan, directory: Path, *, static: bool) -> str:
    """Return the text of torchmodel.pc for a library in `directory`.

    Raises:
        InexpressibleError: a path cannot be written in a .pc file.
    """
    return pc_text(directory, (*pkg_config.link_flags(plan), "-lstdc++", "-lm") if static else None)


def pc_text(directory: Path, behind: Sequence[str] | None) -> str:
    """Return the text of torchmodel.pc: for a shared library, or for an archive with the flags behind it.

    Raises:
        InexpressibleError: a path cannot be written in a .pc file.
    """
    place = str(directory)
    if "," in place and behind is None:
        raise InexpressibleError(
            f"{place} cannot be written in a .pc file: a comma ends the argument of -Wl,-rpath.",
            hint="Choose a directory without commas in its path, or add --static.",
        )
    rpath = () if behind is not None else (f"-Wl,-rpath,{place}",)
    flags = (f"-L{place}", *rpath, f"-l{NAME}", *(behind or ()))
    return "\n".join((
        f"Name: {NAME}",
        "Description: a C API over libtorch, written by torchlink",
        "Version: 1",
        f"Cflags: {quoting.pkg_config(f'-I{place}')}",
        f"Libs: {' '.join(quoting.pkg_config(flag) for flag in flags)}",
        "",
    ))  # fmt: skip


def source_directory() -> Path:
    """Return the directory of the library's sources."""
    return data_dir("templates") / "capi"


def sources() -> dict[str, str]:
    """Return all sources: file name -> text."""
    own = sorted(file for file in source_directory().iterdir() if file.suffix in {".cpp", ".h", ".map"})
    return {
        file.name: file.read_text(encoding="utf-8")
        for file in (*own, *(source_dir() / name for name in FROM_LOADER))
    }
