"""The link plan: everything a build needs to know, in no tool's syntax.

Link rules live here and nowhere else; an emitter only quotes.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import InexpressibleError, LibtorchUnusableError, UsageError
from torchlink.libtorch.floor import glibc_conflict, shortfall
from torchlink.libtorch.machine import is_foreign
from torchlink.libtorch.names import ACCELERATOR_CORES, CPU_LIBRARIES, PYTHON_LIBRARY, REQUIRED
from torchlink.libtorch.tree import check_unpacked
from torchlink.plan_options import PlanOptions as PlanOptions  # noqa: PLC0414 - others import it from here
from torchlink.status import is_file
from torchlink.toolchain.directories import (
    header_position,
    is_system_dir,
    linked,
    linker_dirs,
    usable_include_dirs,
)
from torchlink.toolchain.fit import check_compiler, cxx_standard

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import CompanionDir, Libtorch, MissingLibrary
    from torchlink.libtorch.floor import GlibcConflict, Shortfall
    from torchlink.toolchain.embedding import Embedding
    from torchlink.toolchain.types import Compiler


class PlanLibrary(NamedTuple):
    """A library on the link line."""

    name: str  # bare: "torch_cpu"
    file: Path  # for the linker: lib<name>.so, .dylib, or .lib
    keep: bool  # required: it must stay linked although no symbol references it
    symbol: str | None = None  # Windows: the symbol to include so that the linker keeps it


class LinkPlan(NamedTuple):
    """The flags of a build against one libtorch, before any quoting. All paths are absolute and exist."""

    libtorch: Libtorch
    options: PlanOptions
    platform: str  # "linux" | "macos" | "windows"
    defines: tuple[tuple[str, str], ...]  # (("_GLIBCXX_USE_CXX11_ABI", "0"),); empty if it has no meaning
    include_dirs: tuple[Path, ...]  # libtorch's; never one that the compiler searches by default
    cxx_standard: int
    library_dirs: tuple[Path, ...]  # -L; never one that the linker searches by default
    libraries: tuple[PlanLibrary, ...]  # in link order
    runtime_dirs: tuple[str, ...]  # entries of the program's search path, `$ORIGIN/…` unexpanded
    # DT_RPATH instead of DT_RUNPATH, so that libtorch's libraries find companions that were moved
    runtime_as_rpath: bool
    compiler: Compiler | None  # the one the flags are for; None: any current compiler
    # -rpath-link: searched by the linker only, for the dependencies of libtorch's libraries
    linker_dirs: tuple[Path, ...] = ()
    # Static libraries that are linked whole, before all others: objects in them may need libtorch
    whole_archives: tuple[Path, ...] = ()
    # CUDA's own headers, for programs that include c10/cuda or ATen/cuda; empty if they are not complete
    cuda_include_dirs: tuple[Path, ...] = ()
    # Python's headers, for an extension module or a program that embeds it
    python_include_dirs: tuple[Path, ...] = ()
    # Further flags of an extension module; emitters quote them, and know themselves how a library is made
    compile_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    # Link flags of a program that embeds Python
    program_flags: tuple[str, ...] = ()
    # The standard to set in projects that have one of their own; None if the compiler's default suffices
    shared_standard: int | None = None
    undefines: tuple[str, ...] = ()  # those of `defines` that the compiler's own command defines differently
    # Facts that the user should know; `torchlink.notes` makes sentences of them.
    missing: tuple[MissingLibrary, ...] = ()  # dependencies that are not found anywhere
    # Companion dirs on no search path: neither libtorch's nor the program's
    unreached_dirs: tuple[Path, ...] = ()
    shortfall: Shortfall | None = None  # what the C and C++ libraries of this system or of the compiler lack
    glibc_conflict: GlibcConflict | None = None  # the program would load a C library of another release
    ignored_compiler: str | None = None  # the value of $CXX, where that cannot use these flags

    @property
    def all_include_dirs(self) -> tuple[Path, ...]:
        """Libtorch's include directories, followed by CUDA's and Python's."""
        return self.include_dirs + self.cuda_include_dirs + self.python_include_dirs

    @property
    def is_c(self) -> bool:
        """Whether the program is C, or calls C: False, it is C++."""
        return False

    @property
    def package(self) -> str:
        """What the program uses, as a name for targets and variables."""
        return "torch"

    @property
    def runtime_libraries(self) -> tuple[str, ...]:
        """The C++ runtime, for a linker that is not started by a C++ compiler."""
        return {"linux": ("stdc++", "m"), "macos": ("c++",)}.get(self.platform, ())


DEFAULTS = PlanOptions()

ABI_MACRO = "_GLIBCXX_USE_CXX11_ABI"
SONAME = r"[^/,:\s\x00-\x1f\x7f]+"
# What glibc's loader replaces in a search path entry.
LOADER_TOKENS = r"\$\{?(ORIGIN|LIB|PLATFORM)\b"


def make_plan(
    libtorch: Libtorch, options: PlanOptions = DEFAULTS, compiler: Compiler | None = None
) -> LinkPlan:
    """Decide the flags of a build.

    Args:
        libtorch: what to build against.
        options: what the user wants from the build.
        compiler: determines whether the preferred C++ standard is possible, and which include directories are its own.
            Without one the flags are for any current compiler.

    Raises:
        LibtorchUnusableError: it is not extracted, or it is incomplete.
        ToolUnfitError: the compiler cannot build against this libtorch.
        InexpressibleError: libtorch's directory cannot be written in a search path.
        UsageError: an option has an unknown value.
        FileError: what is to be linked whole is no static library.
    """
    if compiler is not None or not is_foreign(libtorch):
        check_unpacked(libtorch)  # flags for another platform are only looked at here
    if options.compiles and not libtorch.include_dirs:
        raise LibtorchUnusableError(
            f"{libtorch.root} has no headers to compile with: include/ATen is missing.",
            hint="Name a libtorch with include/, or use `torchlink flags --link` for the link flags alone.",
        )
    if compiler is not None:
        check_compiler(libtorch, compiler)
    if options.headers not in {"system", "after"}:
        raise UsageError(f"Unknown --headers value: {options.headers}.", hint="Use system or after.")
    _check_soname(options)
    options = options._replace(headers=header_position(options.headers, libtorch, compiler))
    standard = cxx_standard(libtorch, compiler, options.cxx_standard)
    away = tuple(companion for companion in libtorch.companion_dirs if not companion.in_place)
    libraries = _libraries(libtorch, options)
    libraries += _companion_libraries(libtorch, away, options, libraries)
    python = _embedded_python(libtorch, options)
    libraries = (*_python_libraries(libtorch, python), *libraries)
    own_dir = () if is_system_dir(libtorch.library_dir) else (libtorch.library_dir,)
    absolute = tuple(
        dict.fromkeys((*own_dir, *(companion.path for companion in away), *_python_dirs(python)))
    )
    searched = runtime_dirs(libtorch.platform, options, absolute)
    cuda_dirs = () if options.cpu_only else _cuda_headers(libtorch)
    python_dirs = _python_headers(libtorch, options)
    on_linux = libtorch.platform == "linux"
    has_abi_flag = on_linux and libtorch.cxx11_abi is not None
    abi_clashes = compiler and compiler.abi_predefined and compiler.default_cxx11_abi != libtorch.cxx11_abi
    return LinkPlan(
        libtorch=libtorch,
        options=options,
        platform=libtorch.platform,
        defines=((ABI_MACRO, str(libtorch.cxx11_abi)),) if has_abi_flag else (),
        undefines=(ABI_MACRO,) if has_abi_flag and abi_clashes else (),
        include_dirs=usable_include_dirs(libtorch.include_dirs, libtorch, compiler),
        cxx_standard=standard,
        library_dirs=own_dir,
        libraries=libraries,
        runtime_dirs=searched,
        runtime_as_rpath=bool(away) and on_linux and options.rpath == "absolute",
        compiler=compiler,
        linker_dirs=linker_dirs(libtorch),
        whole_archives=_whole_archives(options),
        cuda_include_dirs=usable_include_dirs(cuda_dirs, libtorch, compiler),
        python_include_dirs=usable_include_dirs(
            (python.include_dir,) if python else python_dirs, libtorch, compiler
        ),
        program_flags=_program_flags(python),
        compile_flags=("-fPIC", "-fvisibility=hidden") if options.python_extension else (),
        # Python has loaded libtorch's libraries: only those whose symbols the module uses are linked.
        link_flags=("-Wl,--as-needed",) if options.python_extension and on_linux else (),
        shared_standard=options.cxx_standard or _unlike_default(compiler, libtorch.cxx_standard_required),
        missing=missing_of(libraries, libtorch) if options.cpu_only else libtorch.missing_libraries,
        unreached_dirs=tuple(companion.path for companion in away) if options.rpath != "absolute" else (),
        shortfall=shortfall(libtorch, linked(compiler)),
        glibc_conflict=glibc_conflict(libtorch)
        if libtorch.layout == "system" and options.rpath == "absolute"
        else None,
    )


def _check_soname(options: PlanOptions) -> None:
    if options.soname is None:
        return
    if not options.plugin:
        raise UsageError("--soname: a program has no soname.", hint="Add --plugin, or omit --soname.")
    if not re.fullmatch(SONAME, options.soname):
        raise UsageError(
            f"--soname {options.soname!r}: a soname is a file name without directory, spaces, commas and colons.",
            hint="Use one such as libops.so.",
        )


def _whole_archives(options: PlanOptions) -> tuple[Path, ...]:
    if not options.whole_archive:
        return ()
    from torchlink.toolchain.archives import static_libraries

    return static_libraries(options.whole_archive)


def _unlike_default(compiler: Compiler | None, required: int) -> int | None:
    """Return the standard that must be set; None if the compiler's default is it or a later one."""
    default = compiler.default_standard if compiler else None
    return required if default is None or default < required else None


def _cuda_headers(libtorch: Libtorch) -> tuple[Path, ...]:
    """Return CUDA's include directories."""
    if libtorch.accelerator != "cuda":
        return ()
    from torchlink.toolchain.cuda import cuda_include_dirs

    return cuda_include_dirs(libtorch)


def _embedded_python(libtorch: Libtorch, options: PlanOptions) -> Embedding | None:
    """Return what the embedded interpreter is linked with."""
    if options.embed_python is None:
        return None
    if options.python_extension or options.plugin:
        raise UsageError(
            "--embed-python is for programs, --python-extension and --plugin are for libraries.",
            hint="Use only one of them.",
        )
    if libtorch.platform != "linux" or is_foreign(libtorch):
        raise UsageError(
            f"--embed-python: {libtorch.root} is not a libtorch for this Linux system.",
            hint="Build the program where its Python runs.",
        )
    interpreter = options.embed_python or libtorch.python
    if not interpreter:
        raise UsageError(
            f"--embed-python: {libtorch.root} belongs to no Python environment, so the interpreter is unknown.",
            hint="Name the interpreter: --embed-python EXE.",
        )
    from torchlink.toolchain.embedding import embedding

    return embedding(interpreter)


def _python_libraries(libtorch: Libtorch, python: Embedding | None) -> tuple[PlanLibrary, ...]:
    """Return libtorch_python, through which tensors reach Python, and a shared libpython."""
    if python is None:
        return ()
    shared = (
        () if python.static else (PlanLibrary(name=python.library.name, file=python.library, keep=False),)
    )
    return (_torch_python(libtorch), *shared)


def _torch_python(libtorch: Libtorch) -> PlanLibrary:
    if not _file_name(libtorch, PYTHON_LIBRARY):
        raise LibtorchUnusableError(
            f"{libtorch.library_dir} has no libtorch_python, through which tensors reach Python.",
            hint="Use a torch that pip or conda installed: --python EXE.",
        )
    return _library(libtorch, PYTHON_LIBRARY)


def _python_dirs(python: Embedding | None) -> tuple[Path, ...]:
    """Return the directory of a shared libpython that the dynamic loader does not search by itself."""
    if python is None or python.static or is_system_dir(python.library.parent):
        return ()
    return (python.library.parent,)


def _program_flags(python: Embedding | None) -> tuple[str, ...]:
    """Return the flags that make a program an interpreter to extension modules.

    They are not linked with libpython. One that is in the program itself must be there whole, because nothing in the
    program refers to most of it, and must be exported.
    """
    if python is None:
        return ()
    if not python.static:
        return ("-rdynamic",)
    if "," in str(python.library):
        raise InexpressibleError(
            f"{python.library} cannot be linked whole: its path has a comma.",
            hint="Reach it through a path without commas.",
        )
    return (
        "-rdynamic",
        f"-Wl,--push-state,--whole-archive,{python.library},--pop-state",
        *(f"-l{name}" for name in python.system_libraries),
    )


def _python_headers(libtorch: Libtorch, options: PlanOptions) -> tuple[Path, ...]:
    """Return Python's include directories, for an extension module."""
    if options.tensors and not options.python_extension:
        raise UsageError("--tensors is an option of --python-extension.", hint="Use both, or neither.")
    if not options.python_extension:
        return ()
    if options.plugin:
        raise UsageError(
            "--plugin and --python-extension: a plugin has no undefined symbols, and an extension has Python's.",
            hint="Use only one of them.",
        )
    if libtorch.platform == "windows" or is_foreign(libtorch):
        raise UsageError(
            f"--python-extension: {libtorch.root} is built for another system than this one.",
            hint="Build the extension where its Python runs.",
        )
    if not options.compiles:
        return ()
    python = options.python or libtorch.python
    if python is None:
        raise UsageError(
            f"--python-extension: {libtorch.root} belongs to no Python environment, so the interpreter is unknown.",
            hint="Name the interpreter whose torch is used with --python EXE.",
        )
    from torchlink.toolchain.python import python_headers

    return python_headers(python).include_dirs


def _libraries(libtorch: Libtorch, options: PlanOptions) -> tuple[PlanLibrary, ...]:
    """Return the libraries in link order: each before those that it depends on."""
    libraries: list[PlanLibrary] = []
    if options.tensors:
        libraries.append(_torch_python(libtorch))
    if options.aoti:
        # An AOTInductor package needs libtorch.so by its bare name.
        libraries += [_library(libtorch, "torch", keep=True)] if _file_name(libtorch, "torch") else []
    if not options.cpu_only:
        libraries += [
            _library(libtorch, name, keep=not options.python_extension, symbol=symbol)
            for name, symbol in REQUIRED.items()
            if _file_name(libtorch, name)
        ]
        libraries += [_library(libtorch, name) for name in ACCELERATOR_CORES if _file_name(libtorch, name)]
    names = next(
        (names for names in CPU_LIBRARIES if all(_file_name(libtorch, name) for name in names)), None
    )
    if names is None:
        raise LibtorchUnusableError(
            f"{libtorch.library_dir} has nothing to link against: neither torch_cpu nor torch next to c10.",
            hint="Reinstall libtorch, or name another one with --libtorch.",
        )
    linked = {library.name for library in libraries}
    return (*libraries, *(_library(libtorch, name) for name in names if name not in linked))


def _companion_libraries(
    libtorch: Libtorch,
    away: tuple[CompanionDir, ...],
    options: PlanOptions,
    linked: tuple[PlanLibrary, ...],
) -> tuple[PlanLibrary, ...]:
    """Return the companion libraries that the program itself must link.

    A library with a DT_RUNPATH ignores the program's DT_RPATH (glibc's rule), so a companion that it no longer finds
    must already be loaded under that name.
    """
    if libtorch.search_kind != "runpath" or libtorch.platform != "linux" or options.rpath != "absolute":
        return ()
    files = {library.file for library in linked}
    return tuple(
        PlanLibrary(name=name, file=companion.path / name, keep=True)
        for companion in away
        for name in companion.libraries
        if is_file(companion.path / name) and companion.path / name not in files
    )


def _library(libtorch: Libtorch, name: str, *, keep: bool = False, symbol: str | None = None) -> PlanLibrary:
    on_windows = libtorch.platform == "windows"
    file = libtorch.library_dir / _file_name(libtorch, name)
    return PlanLibrary(name=name, file=file, keep=keep, symbol=symbol if on_windows else None)


def _file_name(libtorch: Libtorch, name: str) -> str:
    """Return the file for the linker by a bare library name; empty if there is none."""
    wanted = {"windows": f"{name}.lib", "macos": f"lib{name}.dylib"}.get(libtorch.platform, f"lib{name}.so")
    if wanted in libtorch.libraries:
        return wanted
    # A runtime package without its development package has only the versioned file.
    return next((file for file in libtorch.libraries if file.startswith(f"{wanted}.")), "")


def runtime_dirs(platform: str, options: PlanOptions, absolute: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the entries of a program's search path.

    Args:
        platform: of the program.
        options: `rpath` is used.
        absolute: the directories that it needs.

    Raises:
        InexpressibleError: a directory cannot be written in a search path.
        UsageError: `rpath` has an unknown value.
    """
    kind, _, directory = options.rpath.partition("=")
    if (
        kind not in {"absolute", "none", "origin"}
        or (directory and kind != "origin")
        or directory.startswith("/")
    ):
        raise UsageError(
            f"Unknown --rpath value: {options.rpath}.",
            hint="Use absolute, none, or origin=DIR with a relative DIR.",
        )
    if kind == "none" or platform == "windows":
        return ()
    entries: tuple[str, ...]
    written: tuple[str, ...]
    if kind == "origin":
        origin = "@loader_path" if platform == "macos" else "$ORIGIN"
        relative = posixpath.normpath(directory)
        entries = (origin if relative == "." else f"{origin}/{relative}",)
        written = (directory,)
    else:
        entries = written = tuple(str(path) for path in absolute)
    if platform == "linux":
        for path in written:
            _check_search_path(path)
    return entries


def _check_search_path(path: str) -> None:
    if ":" in path or ("$" in path and re.search(LOADER_TOKENS, path)):
        raise InexpressibleError(
            f"{path} cannot be written in a search path: ':' separates its entries, and $ORIGIN, $LIB and "
            "$PLATFORM are expanded.",
            hint="Reach libtorch through a symlink, or use --rpath none and `torchlink run`.",
        )


def missing_of(plan_libraries: tuple[PlanLibrary, ...], libtorch: Libtorch) -> tuple[MissingLibrary, ...]:
    """Return the missing dependencies of the linked libraries, which leaves out what is loaded only on a GPU."""
    linked = {library.file.name for library in plan_libraries}
    return tuple(library for library in libtorch.missing_libraries if library.needed_by in linked)
