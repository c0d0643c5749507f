"""The C API for AOTInductor packages alone, which any C compiler builds: no C++ compiler and no header of libtorch."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from typing import TYPE_CHECKING

from torchlink.capi_plan import C_API as NAME
from torchlink.compilation.capi import (
    EXPORTS,
    HEADER,
    SHARED,
    SONAME,
    STATIC,
    CApi,
    pc_text,
    source_directory,
)
from torchlink.errors import InexpressibleError, LibtorchUnusableError, ToolMissingError
from torchlink.libtorch.version import release
from torchlink.toolchain.directories import linker_dirs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torchlink.compilation.loader import BuiltLoader
    from torchlink.libtorch.facts import Libtorch

SOURCE = "aoti_only.c"
WRITTEN_AS = f"{NAME}.c"  # for those who compile it themselves: cgo, Zig, Nim
OLDEST = (2, 6)
COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-std=c99", "-O2", "-fPIC", "-fvisibility=hidden")
LIBRARIES = ("torch", "torch_cpu", "c10")


def c_api_for_packages(
    found: Libtorch,
    command: str | None,
    directory: Path,
    *,
    rpath: str = "absolute",
    static: bool = False,
    started: Callable[[], None] = lambda: None,
) -> CApi:
    """Return the C API in C for a libtorch.

    Args:
        found: the libtorch.
        command: the C compiler's; None: `$CC`, else cc, gcc or clang.
        directory: where it will be; its .pc file names it.
        rpath: "absolute" or "none".
        static: an archive instead of a shared library.
        started: called before something is compiled.

    Raises:
        LibtorchUnusableError: the libtorch runs no packages, or is not for this system.
        ToolMissingError: there is no C compiler.
        BuildFailedError: it does not compile or link.
        InexpressibleError: a path cannot be written in a .pc file.
        FileError: the cache cannot be written.
    """
    number = release(found.version) if found.version else None
    if number is not None and number < OLDEST:
        raise LibtorchUnusableError(
            f"{found.root}: libtorch {found.version} is too old for AOTInductor packages.",
            hint="Name libtorch 2.6 or newer with --libtorch.",
        )
    if not (found.library_dir / "libtorch_cpu.so").is_file():
        raise LibtorchUnusableError(
            f"{found.root}: no libtorch_cpu.so, which exports the C functions that --aoti-only needs.",
            hint="Name a libtorch of shared libraries for Linux with --libtorch.",
        )
    compiler = c_compiler(command)
    linking = link_flags(found, rpath)
    pc = pc_text(directory, (*linking, "-lpthread", "-ldl") if static else None, linker_dirs(found))
    library = _built(compiler, found, linking, static=static, started=started)
    files: dict[str, str | bytes] = {
        HEADER: (source_directory() / HEADER).read_bytes(),
        WRITTEN_AS: (source_directory() / SOURCE).read_bytes(),
        f"{NAME}.pc": pc,
    }
    return CApi(library, files, STATIC if static else SHARED, STATIC if static else SONAME)


def c_compiler(command: str | None) -> tuple[str, ...]:
    """Return a C compiler's command, split as a shell does.

    Raises:
        ToolMissingError: there is none.
    """
    named = command or os.environ.get("CC", "")
    try:
        words = tuple(shlex.split(named))
    except ValueError:
        words = (named,)
    if words:
        if shutil.which(words[0]) is None:
            raise ToolMissingError(
                f"{words[0]}: no such program on PATH.", hint="Name a C compiler with --compiler or $CC."
            )
        return words
    for name in COMPILERS:
        if shutil.which(name) is not None:
            return (name,)
    raise ToolMissingError(
        "No C compiler on PATH: none of cc, gcc and clang.", hint="Install one: apt install gcc libc6-dev"
    )


def link_flags(found: Libtorch, rpath: str) -> tuple[str, ...]:
    """Return the flags that link libtorch's C functions; a package may look for libtorch.so by name, too.

    Raises:
        InexpressibleError: the path has a comma.
    """
    place = str(found.library_dir)
    if "," in place and rpath == "absolute":
        raise InexpressibleError(
            f"{place} cannot be written: a comma ends the argument of -Wl,-rpath.",
            hint="Reach libtorch through a path without commas, or use --rpath none.",
        )
    present = [name for name in LIBRARIES if (found.library_dir / f"lib{name}.so").is_file()]
    return (
        f"-L{place}",
        *((f"-Wl,-rpath,{place}",) if rpath == "absolute" else ()),
        "-Wl,--no-as-needed",
        *(f"-l{name}" for name in present),
    )


def _built(
    compiler: tuple[str, ...],
    found: Libtorch,
    linking: tuple[str, ...],
    *,
    static: bool,
    started: Callable[[], None],
) -> BuiltLoader:
    """Return the library: from the cache, else built under a lock and cached."""
    from torchlink.compilation import cache
    from torchlink.compilation.cmake import run_steps
    from torchlink.compilation.loader import BuiltLoader, cached
    from torchlink.compilation.recipe import LIST, PROGRAM, stamp
    from torchlink.toolchain.tools import identity_of

    sources = source_directory()
    product = STATIC if static else SONAME
    compiling = (
        *(*compiler, *OPTIONS, f'-DTM_LIBTORCH_VERSION="{found.version or ""}"', f"-I{sources}"),
        *("-c", str(sources / SOURCE), "-o", f"{NAME}.o"),
    )
    finishing = (
        ("ar", "rcs", product, f"{NAME}.o")
        if static
        else (
            *(*compiler, "-shared", "-o", product, f"{NAME}.o", f"-Wl,-soname,{SONAME}"),
            *("-Xlinker", f"--version-script={sources / EXPORTS}", "-Wl,--no-undefined"),
            *(*linking, "-lpthread", "-ldl"),
        )
    )
    texts = [(sources / name).read_text(encoding="utf-8") for name in (SOURCE, HEADER, EXPORTS)]
    identities = [
        identity_of(shutil.which(compiler[0]) or compiler[0]),
        identity_of(str(found.library_dir / "libtorch_cpu.so")),
    ]
    parts = (*compiling, *finishing, *identities, *texts)
    name = hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]
    line = shlex.join(compiling)

    def build(work: Path) -> BuiltLoader:
        directory, finished = work / "work", work / "entry"
        directory.mkdir()
        seconds = round(run_steps((compiling, finishing), directory, log_name=f"{name}.txt"), 3)
        finished.mkdir()
        (directory / product).rename(finished / PROGRAM)
        (finished / LIST).touch()
        facts = {
            "libtorch": {"root": str(found.root), "version": found.version},
            "compiler": compiler[0],
            "command": line,
            "compile_seconds": seconds,
            "headers": stamp(()),
        }
        entry = cache.publish(name, finished, PROGRAM, facts)
        return BuiltLoader(entry.program, cached=False, compile_seconds=seconds, command=line)

    return cached(name, build, started)
