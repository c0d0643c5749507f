"""The C API over libtorch: its library, built and cached like the loader, and the files that a user gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from torchlink import atomic
from torchlink.capi_plan import C_API as NAME
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

HEADER = f"{NAME}.h"
EXPORTS = "exports.map"
SONAME = f"lib{NAME}.so.1"  # 1: TM_VERSION of torchmodel.h
SHARED = f"lib{NAME}.so"
STATIC = f"lib{NAME}.a"
OBJECT = f"{NAME}.o"
FROM_LOADER = (
    *("api.h", "json.h", "values.h", "tensors.h", "older_values.h"),
    *("aoti_spec.h", "aoti_inputs.h", "aoti_package.h"),
)
OLDEST = (2, 0)
OPTIONS = ("-O1", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden")


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
    compiling = (
        *compiler.command,
        *OPTIONS,
        *("-I", str(source_directory()), "-I", str(source_dir())),
        *("-c", str(source_directory() / f"{NAME}.cpp"), "-o", OBJECT),
        *("-MD", "-MF", f"{NAME}.d"),
        *flags,
    )
    if static:
        finish: tuple[str, ...] = ("ar", "rcs", STATIC, OBJECT)
    else:
        exports = source_directory() / EXPORTS
        finish = (
            *compiler.command,
            *("-shared", "-o", SONAME, OBJECT),
            *(f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={exports}", "-Wl,--no-undefined"),
            *cxx.flags(plan, "link"),
        )
    return Recipe(
        "capi-static" if static else "capi",
        sources(),
        (compiling, finish),
        STATIC if static else SONAME,
    )


def pc_file(plan: LinkPlan, directory: Path, *, static: bool) -> str:
    """Return the text of torchmodel.pc for a library in `directory`.

    Raises:
        InexpressibleError: a path cannot be written in a .pc file.
    """
    if static:
        return pc_text(directory, (*pkg_config.link_flags(plan), "-lstdc++", "-lm"))
    return pc_text(directory, None, plan.linker_dirs)


def pc_text(directory: Path, behind: Sequence[str] | None, searched: Sequence[Path] = ()) -> str:
    """Return the text of torchmodel.pc.

    Args:
        directory: where the library will be.
        behind: the flags behind an archive; None: it is a shared library.
        searched: where the linker looks for what a shared library needs, if it does not find that itself.

    Raises:
        InexpressibleError: a path cannot be written in a .pc file.
    """
    place = str(directory)
    paths = (
        () if behind is not None else (("-rpath", place), *(("-rpath-link", str(each)) for each in searched))
    )
    for option, path in paths:
        if "," in path:
            raise InexpressibleError(
                f"{path} cannot be written in a .pc file: a comma ends the argument of -Wl,{option}.",
                hint="Choose a directory without commas in its path, or add --static.",
            )
    search = (f"-Wl,{option},{path}" for option, path in paths)
    flags = (f"-L{place}", *search, f"-l{NAME}", *(behind or ()))
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
